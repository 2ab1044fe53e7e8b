"""The selective scan of Mamba (S6), as functions."""

from __future__ import annotations

from .dispatch import BackendStatus, backend_table, scan_backend
from .picture import cross_merge, cross_scan, cross_selective_scan
from .sequence import selective_scan, selective_scan_blocks, selective_scan_step

__all__ = [
    "BackendStatus",
    "backend_table",
    "cross_merge",
    "cross_scan",
    "cross_selective_scan",
    "scan_backend",
    "selective_scan",
    "selective_scan_blocks",
    "selective_scan_step",
]
