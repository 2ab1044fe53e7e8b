"""From a photo and a style to a picture."""

from __future__ import annotations

from clipmamba.pipelines.stylize import StylizeOutput, StylizePipeline

__all__ = ["StylizeOutput", "StylizePipeline"]
