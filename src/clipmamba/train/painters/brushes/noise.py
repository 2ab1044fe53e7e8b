"""Fields: noise, paper, vignettes; how they are enlarged and moved."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.smoothing import blur
from clipmamba.train.painters.brushes.tone import Array, smoothstep


def noise(shape: tuple[int, int], rng: np.random.Generator, size: float = 1.0) -> Array:
    """Make Gaussian noise (H, W) with grains of `size` pixels, mean 0, standard deviation 1."""
    height, width = shape
    # coarse noise is made on a coarse grid and enlarged: a wide blur at full size is slow
    step = max(1.0, size / 3.0)
    coarse_shape = (int(np.ceil(height / step)) + 1, int(np.ceil(width / step)) + 1)
    field: Array = rng.standard_normal(coarse_shape, dtype=np.float32)
    field = blur(field, 0.45 * size / step)
    if step > 1.0:
        full = (round(coarse_shape[0] * step), round(coarse_shape[1] * step))
        field = enlarge(field, full)
    field = field[:height, :width]
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def enlarge(field: Array, shape: tuple[int, int], order: int = 1) -> Array:
    """Resample a field or picture to `shape` (H, W) by repeating (0) or linearly (1)."""
    ys = (np.arange(shape[0], dtype=np.float32) + 0.5) * (field.shape[0] / shape[0]) - 0.5
    xs = (np.arange(shape[1], dtype=np.float32) + 0.5) * (field.shape[1] / shape[1]) - 0.5
    if order == 0:
        iy = np.clip(np.rint(ys), 0, field.shape[0] - 1).astype(np.intp)
        ix = np.clip(np.rint(xs), 0, field.shape[1] - 1).astype(np.intp)
        return field[iy[:, None], ix]
    rows = _lerp(field, ys, 0)
    return _lerp(rows, xs, 1)


def _lerp(field: Array, at: Array, axis: int) -> Array:
    at = np.clip(at, 0, field.shape[axis] - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, field.shape[axis] - 1)
    weight = (at - low).astype(np.float32)
    weight = weight.reshape([-1 if d == axis else 1 for d in range(field.ndim)])
    return np.take(field, low, axis) * (1 - weight) + np.take(field, high, axis) * weight


def shifted(field: Array, down: int, right: int) -> Array:
    """Shift a field or picture by whole pixels; the border repeats, nothing wraps around."""
    rows = np.clip(np.arange(field.shape[0]) - down, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - right, 0, field.shape[1] - 1)
    return field[rows[:, None], columns]


def paper(shape: tuple[int, int], rng: np.random.Generator, scale: float) -> Array:
    """Make paper tooth (H, W), about mean 0 and standard deviation 1: fine grain, soft clouds."""
    return 0.8 * noise(shape, rng, 1.3 * scale) + 0.45 * noise(shape, rng, 4.0 * scale)


def vignette(shape: tuple[int, int], start: float = 0.45) -> Array:
    """0 in the middle, rising to 1 in the corners (H, W)."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    return smoothstep(start, 1.42, np.sqrt(y * y + x * x))
