"""Directions in a picture, and what follows them: streamlines and hatching."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
from scipy import ndimage

from clipmamba.train.painters.brushes.noise import noise
from clipmamba.train.painters.brushes.smoothing import blur
from clipmamba.train.painters.brushes.tone import Array, Index


def tangent(gray: Array, sigma: float) -> tuple[Array, Array]:
    """Estimate the direction along edges from the smoothed structure tensor.

    Returns:
        (angle, coherence): angle (H, W) of the edge in radians (0 is along x, y down), and
        coherence (H, W) in [0, 1], 1 where one direction dominates.
    """
    smooth = blur(gray, 0.8)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    # normalized by the root of the strength: strong edges should not dominate all around them
    strength = np.sqrt(gx * gx + gy * gy) + 1e-4
    xx, yy, xy = (
        blur(product, sigma)
        for product in (gx * gx / strength, gy * gy / strength, gx * gy / strength)
    )
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    root = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    return angle.astype(np.float32), (root / (xx + yy + 0.02)).astype(np.float32)


def blend_angles(a: Array, b: Array | float, weight: Array | float) -> Array:
    """Blend two direction fields (mod pi): `weight` 0 gives a, 1 gives b."""
    cos = (1 - weight) * np.cos(2 * a) + weight * np.cos(2 * np.asarray(b))
    sin = (1 - weight) * np.sin(2 * a) + weight * np.sin(2 * np.asarray(b))
    return np.asarray(0.5 * np.arctan2(sin, cos), dtype=np.float32)


class Flow:
    """Streamlines of a direction field, to smooth pictures or noise along them.

    Args:
        angle: direction (H, W) in radians, mod pi.
        steps: pixels walked to each side of every pixel.
        stride: length of one step.
    """

    def __init__(self, angle: Array, steps: int, stride: float = 1.0):
        height, width = angle.shape
        vy, vx = np.sin(angle).ravel(), np.cos(angle).ravel()
        y0, x0 = (part.ravel().astype(np.float32) for part in np.indices(angle.shape))
        here = np.arange(height * width)
        lines = [here]
        for sign in (1.0, -1.0):
            y, x, at = y0.copy(), x0.copy(), here
            dy, dx = sign * vy, sign * vx
            for _ in range(steps):
                y = np.clip(y + dy * np.float32(stride), 0, height - 1)
                x = np.clip(x + dx * np.float32(stride), 0, width - 1)
                at = np.rint(y).astype(np.intp) * width + np.rint(x).astype(np.intp)
                ny, nx = vy[at], vx[at]
                turn = np.where(ny * dy + nx * dx < 0, np.float32(-1), np.float32(1))
                dy, dx = ny * turn, nx * turn
                lines.append(at)
        self._at: Index = np.stack(lines)

    def smooth(self, picture: Array) -> Array:
        """Average a field or picture along the streamline through each pixel."""
        if picture.ndim == 3:
            channels = [self.smooth(picture[..., c]) for c in range(picture.shape[2])]
            return np.stack(channels, axis=2)
        flat = picture.ravel()
        total: Array = np.zeros_like(flat)
        for at in self._at:
            total += flat[at]
        return (total / np.float32(len(self._at))).reshape(picture.shape)


def edge_flow(gray: Array, scale: float, length: float = 4.0, sigma: float = 2.0) -> Flow:
    """Return streamlines along the edges of a luminance field."""
    angle, _ = tangent(gray, sigma * scale)
    return Flow(angle, max(2, round(length * scale)))


def hatching(
    shape: tuple[int, int], rng: np.random.Generator, angle: float, width: float, length: float
) -> Array:
    """Parallel strokes at `angle` (H, W) of about `width` by `length`, unit deviation."""
    y, x = np.indices(shape, dtype=np.float32)
    drift = 0.35 * width * noise(shape, rng, 20.0 * width)
    across = (y * np.cos(angle) - x * np.sin(angle) + drift) / max(width, 0.9)
    along = (x * np.cos(angle) + y * np.sin(angle)) / length
    across, along = across - across.min(), along - along.min()
    low = across.astype(np.intp)
    table = rng.standard_normal((int(across.max()) + 3, int(along.max()) + 4), dtype=np.float32)
    # Rows start at their own place, so that strokes do not end in line.
    start = rng.random(len(table), dtype=np.float32)
    near, far = _row(table, low, along + start[low]), _row(table, low + 1, along + start[low + 1])
    weight = across - low
    field = near + (far - near) * (weight * weight * (3 - 2 * weight))
    return field / max(float(field.std()), 1e-6)


def _row(table: Array, row: Index, at: Array) -> Array:
    """Interpolate a table linearly at columns `at` of rows `row`."""
    low = at.astype(np.intp)
    first, second = table[row, low], table[row, low + 1]
    return first + (second - first) * (at - low)
