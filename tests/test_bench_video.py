"""The measures of scripts/bench_video.py are right."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/bench_video.py")))


@pytest.mark.parametrize("step", [(0.4, 0.0), (-0.4, 0.0), (0.0, 0.4), (0.0, -0.4), (0.6, 0.6)])
def test_what_does_not_change_has_no_warp_error(script, step):
    # Also where the motion leads to between the outermost pixels and the border.
    rows, columns = np.mgrid[:96, :128].astype(np.float32)

    def frame(turn: int) -> np.ndarray:
        y, x = rows + turn * step[0], columns + turn * step[1]
        waves = 0.5 + 0.2 * np.sin(x / 5) * np.cos(y / 6) + 0.2 * np.sin((x + 2 * y) / 9)
        return np.repeat(waves[..., None], 3, axis=2).astype(np.float32)

    flow = script.Flow([frame(turn) for turn in range(4)])
    assert all(sure.mean() > 0.8 for _, _, sure in flow.steps)
    assert flow.error([np.ones((96, 128, 3), np.float32)] * 4) == 0
