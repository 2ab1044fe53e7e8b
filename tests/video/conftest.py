"""Videos through the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clipmamba.video import VideoReport, stylize_video


@pytest.fixture
def restyle(tiny_pipeline, tmp_path: Path) -> Callable[..., Path]:
    """Restyles a video into a file of that name."""

    def call(video: Path, name: str = "out.mp4", **options: object) -> Path:
        report = stylize_video(video, tmp_path / name, "woodcut", pipeline=tiny_pipeline, **options)
        assert isinstance(report, VideoReport)
        assert not report.broken
        return report.output

    return call
