"""scripts/ablate.py, from nothing for a step."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "ablate.py"


@pytest.mark.slow
def test_a_variant_is_trained_and_measured(
    data: Path, prepared_folder: Path, vgg_weights: Path, tmp_path: Path
):
    options = {"data": data, "prepared": prepared_folder, "vgg": vgg_weights, "output": tmp_path,
               "steps": 1, "batch": 2, "size": 64, "only": "conv"}  # fmt: skip
    words = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=500,
        check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "table.json").read_text())
    assert (row["variant"], row["step"]) == ("conv", 1)
    assert {"total", "texture", "content", "calm"} <= set(row)
    assert row["seconds"] > 0


def test_convolutions_have_the_parameters_of_the_whole():
    script = runpy.run_path(str(SCRIPT))
    whole = script["millions"](script["Stylizer"]())
    depths = script["choose_depths"](16)
    conv = script["Stylizer"](mixer="conv", depth=depths["conv"])
    assert script["millions"](conv) == pytest.approx(whole, rel=0.1)
