"""Reading and writing of pictures: orientation, color profiles, transparency, metadata."""

from __future__ import annotations

from clipmamba.io.color import from_srgb, srgb_profile, to_srgb
from clipmamba.io.formats import WRITABLE
from clipmamba.io.mask import read_mask
from clipmamba.io.metadata import read_settings
from clipmamba.io.picture import MAX_PIXELS, read_picture
from clipmamba.io.save import check_output, write_picture

__all__ = [
    "MAX_PIXELS",
    "WRITABLE",
    "check_output",
    "from_srgb",
    "read_mask",
    "read_picture",
    "read_settings",
    "srgb_profile",
    "to_srgb",
    "write_picture",
]
