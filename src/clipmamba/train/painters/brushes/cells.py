"""Cells: their centers, and the color of each."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.tone import Array, Index


def jittered_grid(
    shape: tuple[int, int],
    rng: np.random.Generator,
    step: float,
    jitter: float,
    brick: bool = False,
) -> tuple[Array, Array]:
    """Points (y, x), each (N,), on a grid of `step` pixels that reaches past the borders.

    Args:
        shape: (H, W).
        rng: randomness.
        step: grid pitch in pixels.
        jitter: uniform displacement in steps (0.5 fills the cell).
        brick: shift every other row by half a step.
    """
    rows, columns = int(shape[0] / step) + 3, int(shape[1] / step) + 3
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    if brick:
        x = x + 0.5 * (y % 2)
    y = (y - 0.75 + rng.uniform(-jitter, jitter, y.shape)) * step
    x = (x - 0.75 + rng.uniform(-jitter, jitter, x.shape)) * step
    return y.ravel().astype(np.float32), x.ravel().astype(np.float32)


def sample(picture: Array, y: Array, x: Array) -> Array:
    """Values of a field or picture at the nearest pixels of points (N,)."""
    iy = np.clip(np.rint(y), 0, picture.shape[0] - 1).astype(np.intp)
    ix = np.clip(np.rint(x), 0, picture.shape[1] - 1).astype(np.intp)
    return picture[iy, ix]


def cell_means(picture: Array, label: Index, cells: int) -> Array:
    """Mean color (cells, 3) of each label (H, W); empty cells are 0."""
    flat = label.ravel()
    count = np.maximum(np.bincount(flat, minlength=cells), 1)
    return np.stack(
        [
            np.bincount(flat, weights=picture[..., c].ravel(), minlength=cells) / count
            for c in range(3)
        ],
        axis=1,
    ).astype(np.float32)
