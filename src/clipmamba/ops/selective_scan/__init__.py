"""The selective scan of Mamba (S6), as functions."""

from __future__ import annotations

from .dispatch import BackendStatus, backend_table, scan_backend
from .scan import selective_scan, selective_scan_blocks
from .step import selective_scan_step

__all__ = [
    "BackendStatus",
    "backend_table",
    "scan_backend",
    "selective_scan",
    "selective_scan_blocks",
    "selective_scan_step",
]
