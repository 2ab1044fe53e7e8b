"""Run other packages' Mamba on this package's scan: see `enable`."""

from __future__ import annotations

from .selective_scan.interop.compat import enable

__all__ = ["enable"]
