"""Functions on tensors, without parameters: the selective scan and the cross scan."""

from __future__ import annotations

from .selective_scan import (
    BackendStatus,
    backend_table,
    cross_merge,
    cross_scan,
    cross_selective_scan,
    scan_backend,
    selective_scan,
    selective_scan_blocks,
    selective_scan_step,
)

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
