"""Smoothing that keeps edges, or leaves few tones."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
from scipy import ndimage

from clipmamba.train.painters.brushes.tone import Array, luma

_SECTORS = tuple((np.sin(a), np.cos(a)) for a in np.arange(8) * (np.pi / 4))


def blur(picture: Array, sigma: float) -> Array:
    """Apply a Gaussian blur to a field or picture."""
    if sigma < 0.2:
        return picture
    sigmas = (sigma, sigma, 0.0) if picture.ndim == 3 else (sigma, sigma)
    return ndimage.gaussian_filter(picture, sigmas, mode="nearest", truncate=3.0)


def kuwahara(photo: Array, radius: float) -> Array:
    """Smooth but keep edges (Kuwahara): each pixel is the mean of the calmest of eight windows."""
    gray = luma(photo)
    stack = np.concatenate([photo, gray[..., None], (gray * gray)[..., None]], axis=2)
    pad = int(np.ceil(radius))
    mean = blur(stack, 0.5 * radius)
    variance = np.maximum(mean[..., 4] - mean[..., 3] ** 2, 0.0) + 2e-4
    weight = 1.0 / (variance * variance * variance)
    # Weighted colors first: a window is then one shifted slice.
    stack = np.concatenate([mean[..., :3] * weight[..., None], weight[..., None]], axis=2)
    stack = np.pad(stack, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    height, width = gray.shape
    total = 0.6 * stack[pad : pad + height, pad : pad + width]
    for dy, dx in _SECTORS:
        top, left = pad + round(radius * dy), pad + round(radius * dx)
        total += stack[top : top + height, left : left + width]
    return total[..., :3] / total[..., 3:]


def simplify(photo: Array, scale: float, passes: int = 2, radius: float = 1.4) -> Array:
    """Flatten texture, keep edges: the base of the flat styles."""
    for _ in range(passes):
        photo = kuwahara(photo, max(1.0, radius * scale))
    return photo


def posterise(field: Array, levels: int, softness: float = 0.15) -> Array:
    """Quantize a field in [0, 1] to `levels` steps with short soft ramps between."""
    x = field * (levels - 1)
    base = np.floor(x)
    t = np.clip((x - base - 0.5) / max(softness, 1e-3) + 0.5, 0.0, 1.0)
    return ((base + t * t * (3 - 2 * t)) / (levels - 1)).astype(np.float32)
