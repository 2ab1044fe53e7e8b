"""Restyling pipelines; torch is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipmamba.pipelines.options import MAX_STRENGTH, StylizeOptions
from clipmamba.pipelines.pipeline import StylizeOutput, StylizePipeline
from clipmamba.pipelines.refine import RefineOptions
from clipmamba.pipelines.stylize import stylize, warm_up

if TYPE_CHECKING:
    from clipmamba.pipelines.photo import Photo

__all__ = [
    "MAX_STRENGTH",
    "Photo",
    "RefineOptions",
    "StylizeOptions",
    "StylizeOutput",
    "StylizePipeline",
    "stylize",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name == "Photo":
        from clipmamba.pipelines.photo import Photo

        return Photo
    raise AttributeError(f"module 'clipmamba.pipelines' has no attribute {name!r}")
