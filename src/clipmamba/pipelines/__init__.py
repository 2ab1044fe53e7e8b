"""Photo and words in, picture out."""

from __future__ import annotations

from clipmamba.pipelines.options import MAX_STRENGTH, StylizeOptions
from clipmamba.pipelines.stylize import StylizeOutput, StylizePipeline, stylize

__all__ = ["MAX_STRENGTH", "StylizeOptions", "StylizeOutput", "StylizePipeline", "stylize"]
