"""Refinement: this one picture is improved, from the network's own result on."""

from __future__ import annotations

from clipmamba.pipelines.refine.options import Refinement, RefineOptions

__all__ = ["RefineOptions", "Refinement"]
