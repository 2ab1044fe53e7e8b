"""Pictures in and out: orientation, colour profile, transparency, metadata, safe writing."""

from __future__ import annotations

from clipmamba.io.mask import read_mask
from clipmamba.io.picture import (
    WRITABLE,
    check_output,
    from_srgb,
    read_picture,
    srgb_profile,
    to_srgb,
    write_picture,
)

__all__ = [
    "WRITABLE",
    "check_output",
    "from_srgb",
    "read_mask",
    "read_picture",
    "srgb_profile",
    "to_srgb",
    "write_picture",
]
