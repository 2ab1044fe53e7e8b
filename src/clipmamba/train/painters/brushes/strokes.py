"""Brush strokes, their bristles and the light on them."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipmamba.train.painters.brushes.tone import Array, Index


@dataclass(frozen=True)
class Layer:
    """One layer of strokes as seen from above.

    Attributes:
        owner: stroke on top at each pixel (H, W), 0 where `alpha` is 0.
        alpha: antialiased cover (H, W) in [0, 1].
        u: position along the stroke (H, W), -1 to 1.
        v: position across the stroke (H, W), -1 to 1.
    """

    owner: Index
    alpha: Array
    u: Array
    v: Array


def lay_strokes(
    shape: tuple[int, int],
    y: Array,
    x: Array,
    angle: Array | float,
    length: Array | float,
    width: Array | float,
    squareness: int = 3,
) -> Layer:
    """Lay strokes in the given order, later ones on top.

    Args:
        shape: (H, W) of the canvas.
        y: center rows (N,).
        x: center columns (N,).
        angle: directions (N,) in radians.
        length: full lengths (N,) in pixels.
        width: full widths (N,) in pixels.
        squareness: 2 gives ellipses, 3 and 4 give rounded bars.
    """
    count = len(y)
    angle, length, width = (
        np.broadcast_to(np.asarray(value, dtype=np.float32), (count,))
        for value in (angle, length, width)
    )
    height, breadth = shape
    half_l, half_w = length / 2 + 0.35, width / 2 + 0.35
    # A lattice finer than 0.7 pixels over the largest stroke touches every pixel beneath it.
    template_u = np.linspace(-1, 1, int(np.ceil(2 * float(half_l.max()) / 0.7)) + 1)
    template_v = np.linspace(-1, 1, int(np.ceil(2 * float(half_w.max()) / 0.7)) + 1)
    along, across = (part.ravel() for part in np.meshgrid(template_u, template_v))
    inside = _power(along, squareness) + _power(across, squareness) < 1.0
    along, across = along[inside].astype(np.float32), across[inside].astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    half_l_cos, half_l_sin = (half_l * cos)[:, None], (half_l * sin)[:, None]
    half_w_cos, half_w_sin = (half_w * cos)[:, None], (half_w * sin)[:, None]
    # Adding a border and dropping it again is cheaper than testing every sample.
    border = int(np.ceil(max(float(half_l.max()), float(half_w.max())))) + 2
    py = y[:, None] + half_l_sin * along + half_w_cos * across + (border + 0.5)
    px = x[:, None] + half_l_cos * along - half_w_sin * across + (border + 0.5)
    py = np.clip(py, 0, height + 2 * border - 1).astype(np.int32)
    px = np.clip(px, 0, breadth + 2 * border - 1).astype(np.int32)
    owner = np.full((height + 2 * border, breadth + 2 * border), -1, dtype=np.intp)
    # numpy keeps the last write to a place: the stroke on top wins.
    owner.ravel()[py * (breadth + 2 * border) + px] = np.arange(count)[:, None]
    owner = owner[border : border + height, border : border + breadth]
    covered = owner >= 0
    owner = np.maximum(owner, 0)
    rows, columns = np.indices(shape, dtype=np.float32)
    dy, dx = rows - y[owner], columns - x[owner]
    cos, sin = cos[owner], sin[owner]
    u = (dx * cos + dy * sin) / half_l[owner]
    v = (dy * cos - dx * sin) / half_w[owner]
    radius = _root(_power(u, squareness) + _power(v, squareness), squareness)
    alpha = np.clip((1.0 - radius) * half_w[owner] + 0.15, 0.0, 1.0) * covered
    return Layer(owner, alpha, u, v)


def _power(x: Array, exponent: int) -> Array:
    """`|x|` to a power of 2, 3 or 4 without the slow general power."""
    square = x * x
    return square * square if exponent == 4 else square * np.abs(x) if exponent == 3 else square


def _root(x: Array, exponent: int) -> Array:
    """Inverse of `_power`."""
    return np.sqrt(np.sqrt(x)) if exponent == 4 else np.cbrt(x) if exponent == 3 else np.sqrt(x)


def bristles(layer: Layer, rng: np.random.Generator, hairs: int = 6) -> Array:
    """Hair marks within strokes (H, W), about -1 to 1: constant along, random across."""
    count = int(layer.owner.max()) + 1
    table = rng.uniform(-1, 1, (count, hairs + 1)).astype(np.float32)
    at = np.clip((layer.v + 1) * (0.5 * hairs), 0, hairs - 1e-3)
    low = at.astype(np.intp)
    weight = at - low
    return table[layer.owner, low] * (1 - weight) + table[layer.owner, low + 1] * weight


def relief(height: Array, strength: float, angle: float = -2.3) -> Array:
    """Light on a height field (H, W): about zero mean, positive on slopes that face the lamp."""
    gy, gx = np.gradient(height)
    return np.asarray(strength * (gx * np.cos(angle) + gy * np.sin(angle)), dtype=np.float32) * -1.0
