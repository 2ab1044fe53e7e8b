"""Videos and animations in and out; needs the extra ``video`` (PyAV, OpenCV)."""

from __future__ import annotations

from clipmamba.video.options import CODECS, WRITABLE_VIDEO, VideoOptions
from clipmamba.video.stylize import FramePainter, VideoReport, stylize_video

__all__ = [
    "CODECS",
    "WRITABLE_VIDEO",
    "FramePainter",
    "VideoOptions",
    "VideoReport",
    "stylize_video",
]
