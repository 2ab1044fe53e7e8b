"""Color code points of ITU-T H.273, as in PNG's cICP and HEIF's nclx."""

from __future__ import annotations

import logging

from clipmamba.errors import InputError
from clipmamba.io.profiles import DISPLAY_P3, SRGB, SRGB_CURVE, Colors, Curve, make_profile

logger = logging.getLogger("clipmamba")

_PRIMARIES = {
    1: SRGB,
    5: Colors((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), SRGB_CURVE),
    6: Colors((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), SRGB_CURVE),
    9: Colors((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), SRGB_CURVE),
    12: DISPLAY_P3,
}
_VIDEO = Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_TRANSFERS = {
    1: _VIDEO, 4: Curve(2.2), 5: Curve(2.8), 6: _VIDEO, 8: Curve(1.0), 13: SRGB_CURVE,
    14: _VIDEO, 15: _VIDEO,
}  # fmt: skip
_HDR = {16: "PQ", 18: "HLG"}


def refuse_hdr(transfer: int, name: str) -> None:
    """Refuse an HDR picture.

    Raises:
        InputError: the transfer function is PQ or HLG.
    """
    if transfer in _HDR:
        raise InputError(f"{name} is an HDR picture ({_HDR[transfer]}); save it as SDR first")


def cicp_colors(primaries: int, transfer: int) -> Colors | None:
    """Look up a color space by its code points; None if they are unknown."""
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        return None
    return with_curve(_PRIMARIES[primaries], _TRANSFERS[transfer])


def with_curve(points: Colors, curve: Curve) -> Colors:
    """Replace the transfer curve of a color space."""
    return Colors(points.red, points.green, points.blue, curve, points.white)


def profile_of(colors: Colors, *, gray: bool = False) -> bytes | None:
    """Make an ICC profile; None for sRGB, or with a warning if the colors are unusable."""
    if colors.is_nearly(SRGB):
        return None
    profile = make_profile(colors, gray=gray) if 0.1 <= colors.curve.gamma <= 10 else None
    if profile is None:
        logger.warning("unusable color description, sRGB assumed")
    return profile
