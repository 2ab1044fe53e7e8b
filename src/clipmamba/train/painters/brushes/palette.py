"""Palettes: learned from a picture, and applied to one."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.tone import LUMA, Array, Index


def learn_palette(photo: Array, size: int, rng: np.random.Generator, rounds: int = 6) -> Array:
    """Find a picture's palette (size, 3) by a few rounds of k-means on a sample."""
    pixels = photo.reshape(-1, 3)
    sample = pixels[rng.integers(0, len(pixels), 1200)]
    # Farthest-first from a random start: small bright accents get an entry of their own.
    centers = np.empty((size, 3), dtype=np.float32)
    centers[0] = sample[0]
    distance = ((sample - centers[0]) ** 2).sum(axis=1)
    for k in range(1, size):
        centers[k] = sample[np.argmax(distance)]
        distance = np.minimum(distance, ((sample - centers[k]) ** 2).sum(axis=1))
    for _ in range(rounds):
        label = nearest(sample, centers)
        count = np.bincount(label, minlength=size)
        for c in range(3):
            total = np.bincount(label, weights=sample[:, c], minlength=size)
            centers[:, c] = np.where(count > 0, total / np.maximum(count, 1), centers[:, c])
    return centers


def nearest(pixels: Array, palette: Array) -> Index:
    """Return the index (N,) of the palette color nearest to each pixel (N, 3)."""
    distance = (palette * palette).sum(axis=1) - 2.0 * (pixels @ palette.T)
    return np.argmin(distance, axis=1)


def to_palette(photo: Array, palette: Array, temperature: float = 0.0, tone: float = 1.0) -> Array:
    """Replace colors by those of a palette (K, 3).

    Args:
        photo: picture (H, W, 3).
        palette: colors (K, 3).
        temperature: 0 for the nearest color, about 0.01 for soft blends.
        tone: weight of luminance against chroma in the comparison.
    """
    weights = _opponent(tone)
    pixels, colors = photo.reshape(-1, 3) @ weights, palette @ weights
    if temperature == 0.0:
        return palette[nearest(pixels, colors)].reshape(photo.shape)
    distance = (colors * colors).sum(axis=1) - 2.0 * (pixels @ colors.T)
    distance -= distance.min(axis=1, keepdims=True)
    share = np.exp(-distance / temperature)
    return ((share @ palette) / share.sum(axis=1, keepdims=True)).reshape(photo.shape)


def _opponent(tone: float) -> Array:
    """Columns (3, 3): luminance, red-green, blue-yellow; a cheap perceptual space."""
    columns = [LUMA * (1.6 * tone), [0.7, -0.7, 0.0], [0.35, 0.35, -0.7]]
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)
