"""Refinement: optimization of a single picture, starting from the network's result."""

from __future__ import annotations

from clipmamba.pipelines.refine.options import Refinement, RefineOptions

__all__ = ["RefineOptions", "Refinement"]
