"""Tone and color of pictures, and the scale of their texture."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

Index = npt.NDArray[np.intp]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601: of the stored levels


def scale_of(photo: Array) -> float:
    """Return the pixels per unit of texture: 1 for a picture with a short side of 160."""
    return min(photo.shape[:2]) / 160.0


def grid_step(scale: float, units: float) -> int:
    """Return the side of a regular grid's cells: 8 pixels, the stylizer's own grid, from 6 up.

    The stylizer works at an eighth of the size and can't tell odd from even positions there, so it
    could only blur cells of 16 pixels, which might begin at either. Below 6 pixels, a cell is as
    small as requested, but at least 2.
    """
    size = units * scale
    return 8 if size >= 6 else max(2, round(size))


def finish(picture: npt.NDArray[np.floating]) -> Array:
    """Clip to [0, 1] and return float32 (H, W, 3); a field (H, W) becomes gray."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.clip(picture, 0.0, 1.0).astype(np.float32, copy=False)


def luma(photo: Array) -> Array:
    """Return the luminance (H, W) of a picture (H, W, 3)."""
    return photo @ LUMA


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high`, a smooth ramp between (`low` > `high` ramps down)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def stretch(field: Array, low: float = 1.0, high: float = 99.0, limit: float = 2.5) -> Array:
    """Stretch the `low`..`high` percentiles to [0, 1], at most `limit` times steeper."""
    a, b = np.percentile(field[::2, ::2], (low, high))
    middle, span = (a + b) / 2.0, max(float(b - a), 1.0 / limit)
    start = min(max(middle - span / 2.0, 0.0), 1.0 - min(span, 1.0))
    return np.clip((field - start) / span, 0.0, 1.0).astype(np.float32)


def with_luma(photo: Array, target: Array) -> Array:
    """Give the picture the luminance `target` (H, W), keeping its chroma."""
    return photo + (target - luma(photo))[..., None]


def saturate(photo: Array, amount: float) -> Array:
    """Scale chroma around gray: 0 is gray, 1 is the photo, more is stronger."""
    gray = luma(photo)[..., None]
    return np.clip(gray + (photo - gray) * np.float32(amount), 0.0, 1.0)


def vibrance(photo: Array, floor: float) -> Array:
    """Raise weak chroma toward `floor` (a channel spread), leave grays and strong colors."""
    gray = luma(photo)[..., None]
    chroma = photo - gray
    spread = photo.max(axis=2) - photo.min(axis=2)
    gain = 1.0 + np.maximum(floor - spread, 0.0) / (spread + 0.06) * smoothstep(0.01, 0.07, spread)
    return np.clip(gray + chroma * gain[..., None], 0.0, 1.0)


def mix(a: Array, b: Array | Sequence[float], weight: Array | float) -> Array:
    """Blend two pictures (or a picture and a color): `weight` 0 gives a, 1 gives b."""
    if isinstance(weight, np.ndarray):
        weight = weight[..., None]
    other = np.asarray(b, dtype=np.float32)
    return a + (other - a) * weight


def ramp(field: Array, stops: Sequence[float], colors: Array | Sequence[Sequence[float]]) -> Array:
    """Map a field (H, W) through a color gradient given by `stops` and `colors`."""
    table = np.asarray(colors, dtype=np.float32)
    return np.stack([np.interp(field, stops, table[:, c]) for c in range(3)], axis=2).astype(
        np.float32
    )


def rgb(code: str) -> tuple[float, float, float]:
    """Convert a six-digit hex code to a color."""
    return tuple(int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))  # type: ignore[return-value]


def rgbs(codes: str) -> Array:
    """Convert blank-separated hex codes to a palette (K, 3)."""
    return np.array([rgb(code) for code in codes.split()], dtype=np.float32)
