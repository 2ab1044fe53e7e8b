"""Shared brushes of the painters: tone, noise, smoothing, flow, lines, cells, strokes, palettes.

Everything here works on float32 numpy arrays: a picture is (H, W, 3) sRGB in [0, 1], a field is
(H, W). Lengths are in pixels; painters get theirs from :func:`scale_of`, so that a texture keeps
its look from 96 to 256 pixels.
"""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.intp]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


# --- tone and colour -------------------------------------------------------------------------


def scale_of(photo: Array) -> float:
    """Pixels a unit of texture takes: 1 for a picture with a short side of 160."""
    return min(photo.shape[:2]) / 160.0


def grid_step(scale: float, units: float) -> int:
    """Pixels of a regular grid's cell: 8, the stylizer's own grid, where that many are wanted.

    The stylizer goes down to an eighth of the size and does not know odd places there from even
    ones: cells of 16 pixels, which might begin at either, it can only blur. Below 6 pixels a cell
    is as small as asked for, at least 2.
    """
    size = units * scale
    return 8 if size >= 6 else max(2, round(size))


def finish(picture: npt.NDArray[np.floating]) -> Array:
    """Clip to [0, 1] and return float32 (H, W, 3); a field (H, W) becomes grey."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.clip(picture, 0.0, 1.0).astype(np.float32, copy=False)


def luma(photo: Array) -> Array:
    """Luminance (H, W) of a picture (H, W, 3)."""
    return photo @ _LUMA


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
    """Scale chroma around grey: 0 is grey, 1 is the photo, more is stronger."""
    grey = luma(photo)[..., None]
    return np.clip(grey + (photo - grey) * np.float32(amount), 0.0, 1.0)


def vibrance(photo: Array, floor: float) -> Array:
    """Raise weak chroma towards `floor` (a channel spread), leave greys and strong colours."""
    grey = luma(photo)[..., None]
    chroma = photo - grey
    spread = photo.max(axis=2) - photo.min(axis=2)
    gain = 1.0 + np.maximum(floor - spread, 0.0) / (spread + 0.06) * smoothstep(0.01, 0.07, spread)
    return np.clip(grey + chroma * gain[..., None], 0.0, 1.0)


def mix(a: Array, b: Array | Sequence[float], weight: Array | float) -> Array:
    """Blend two pictures (or a picture and a colour): `weight` 0 gives a, 1 gives b."""
    if isinstance(weight, np.ndarray):
        weight = weight[..., None]
    other = np.asarray(b, dtype=np.float32)
    return a + (other - a) * weight


def ramp(field: Array, stops: Sequence[float], colours: Array | Sequence[Sequence[float]]) -> Array:
    """Map a field (H, W) through a colour gradient given by `stops` and `colours`."""
    table = np.asarray(colours, dtype=np.float32)
    return np.stack([np.interp(field, stops, table[:, c]) for c in range(3)], axis=2).astype(
        np.float32
    )


def rgb(code: str) -> tuple[float, float, float]:
    """Colour of a six digit hex code."""
    return tuple(int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))  # type: ignore[return-value]


def rgbs(codes: str) -> Array:
    """Palette (K, 3) of blank-separated hex codes."""
    return np.array([rgb(code) for code in codes.split()], dtype=np.float32)


# --- noise -----------------------------------------------------------------------------------


def noise(shape: tuple[int, int], rng: np.random.Generator, size: float = 1.0) -> Array:
    """Gaussian noise (H, W) with elements of `size` pixels, zero mean and unit deviation."""
    height, width = shape
    # Slow noise is made on a coarse grid and enlarged: a wide blur at full size is dear.
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
    """Field or picture moved by whole pixels; the border repeats, nothing wraps around."""
    rows = np.clip(np.arange(field.shape[0]) - down, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - right, 0, field.shape[1] - 1)
    return field[rows[:, None], columns]


def paper(shape: tuple[int, int], rng: np.random.Generator, scale: float) -> Array:
    """Paper tooth (H, W), about zero mean and deviation 1: fine grain over soft clouds."""
    return 0.8 * noise(shape, rng, 1.3 * scale) + 0.45 * noise(shape, rng, 4.0 * scale)


def vignette(shape: tuple[int, int], start: float = 0.45) -> Array:
    """0 in the middle, rising to 1 in the corners (H, W)."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    return smoothstep(start, 1.42, np.sqrt(y * y + x * x))


# --- smoothing -------------------------------------------------------------------------------


def blur(picture: Array, sigma: float) -> Array:
    """Gaussian blur of a field or picture."""
    if sigma < 0.2:
        return picture
    sigmas = (sigma, sigma, 0.0) if picture.ndim == 3 else (sigma, sigma)
    return ndimage.gaussian_filter(picture, sigmas, mode="nearest", truncate=3.0)


_SECTORS = tuple((np.sin(a), np.cos(a)) for a in np.arange(8) * (np.pi / 4))


def kuwahara(photo: Array, radius: float) -> Array:
    """Edge-keeping smoothing: each pixel takes the calmest of eight round windows beside it."""
    grey = luma(photo)
    stack = np.concatenate([photo, grey[..., None], (grey * grey)[..., None]], axis=2)
    pad = int(np.ceil(radius))
    mean = blur(stack, 0.5 * radius)
    variance = np.maximum(mean[..., 4] - mean[..., 3] ** 2, 0.0) + 2e-4
    weight = 1.0 / (variance * variance * variance)
    # Weighted colours first: a window is then one shifted slice.
    stack = np.concatenate([mean[..., :3] * weight[..., None], weight[..., None]], axis=2)
    stack = np.pad(stack, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    height, width = grey.shape
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
    """Quantise a field in [0, 1] to `levels` steps with short soft ramps between."""
    x = field * (levels - 1)
    base = np.floor(x)
    t = np.clip((x - base - 0.5) / max(softness, 1e-3) + 0.5, 0.0, 1.0)
    return ((base + t * t * (3 - 2 * t)) / (levels - 1)).astype(np.float32)


# --- flow ------------------------------------------------------------------------------------


def tangent(grey: Array, sigma: float) -> tuple[Array, Array]:
    """Direction along edges from the smoothed structure tensor.

    Returns:
        (angle, coherence): angle (H, W) of the edge in radians (0 is along x, y down), and
        coherence (H, W) in [0, 1], 1 where one direction rules.
    """
    smooth = blur(grey, 0.8)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    # Normalised by the root of the strength: strong edges should not silence everything near.
    strength = np.sqrt(gx * gx + gy * gy) + 1e-4
    xx, yy, xy = (
        blur(product, sigma)
        for product in (gx * gx / strength, gy * gy / strength, gx * gy / strength)
    )
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    root = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    return angle.astype(np.float32), (root / (xx + yy + 0.02)).astype(np.float32)


def blend_angles(a: Array, b: Array | float, weight: Array | float) -> Array:
    """Mean of two direction fields (directions are mod pi); `weight` 0 gives a."""
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
        """Mean along the streamline through each pixel, of a field or picture."""
        if picture.ndim == 3:
            channels = [self.smooth(picture[..., c]) for c in range(picture.shape[2])]
            return np.stack(channels, axis=2)
        flat = picture.ravel()
        total: Array = np.zeros_like(flat)
        for at in self._at:
            total += flat[at]
        return (total / np.float32(len(self._at))).reshape(picture.shape)


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
    """Linear look-up at column `at` of the rows `row` of a table."""
    low = at.astype(np.intp)
    first, second = table[row, low], table[row, low + 1]
    return first + (second - first) * (at - low)


# --- lines -----------------------------------------------------------------------------------


def outlines(
    grey: Array, sigma: float, low: float = 0.006, high: float = 0.03, flow: Flow | None = None
) -> Array:
    """Ink along edges (H, W) in [0, 1]: difference of Gaussians on the darker side, made soft.

    Args:
        grey: luminance in [0, 1].
        sigma: half the line width in pixels.
        low: difference where ink begins.
        high: difference where ink is full.
        flow: streamlines along edges; with them broken lines join (flow-based DoG).
    """
    difference: Array = blur(grey, 1.6 * sigma) - blur(grey, sigma)
    if flow is not None:
        difference = flow.smooth(difference)
    return smoothstep(low, high, difference)


def line_drawing(photo: Array, scale: float, width: float, flow: Flow) -> Array:
    """Ink outlines (H, W) that keep small forms (eyes, windows) a flattened picture has lost.

    Args:
        photo: the picture before it was flattened.
        scale: pixels a unit takes.
        width: line width in units.
        flow: streamlines along edges.
    """
    grey = stretch(luma(kuwahara(photo, max(1.0, 0.9 * scale))))
    fine = outlines(grey, 0.55 * width * scale, 0.016, 0.050, flow)
    broad = outlines(grey, 0.95 * width * scale, 0.030, 0.075, flow)
    return np.maximum(fine, broad)


def contours(grey: Array, sigma: float, flow: Flow, low: float = 0.25, high: float = 0.7) -> Array:
    """One line on each edge (H, W) in [0, 1]: ridges of the gradient, even in strength.

    Args:
        grey: luminance in [0, 1].
        sigma: half the line width in pixels.
        flow: streamlines along edges, to join broken lines.
        low: relative ridge height where the line begins.
        high: relative ridge height where the line is full.
    """
    smooth = blur(grey, sigma)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    slope = flow.smooth(np.sqrt(gx * gx + gy * gy))
    around = blur(slope, 2.2 * sigma)
    # Strong edges fade to the same line as weak ones; below the floor there is none.
    ridge = (slope - around) / (0.45 * around + 0.08)
    return smoothstep(low, high, ridge) * smoothstep(0.08, 0.30, slope)


def edge_flow(grey: Array, scale: float, length: float = 4.0, sigma: float = 2.0) -> Flow:
    """Streamlines along the edges of a luminance field."""
    angle, _ = tangent(grey, sigma * scale)
    return Flow(angle, max(2, round(length * scale)))


def edge_strength(photo: Array, sigma: float) -> Array:
    """Gradient magnitude (H, W) over all channels of the blurred picture."""
    smooth = blur(photo, sigma)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    return np.sqrt((gx * gx + gy * gy).max(axis=2)) / 4.0


# --- palettes --------------------------------------------------------------------------------


def learn_palette(photo: Array, size: int, rng: np.random.Generator, rounds: int = 6) -> Array:
    """Palette (size, 3) of a picture by a few rounds of k-means on a sample."""
    pixels = photo.reshape(-1, 3)
    sample = pixels[rng.integers(0, len(pixels), 1200)]
    # Farthest-first from a random start: small bright accents get an entry of their own.
    centres = np.empty((size, 3), dtype=np.float32)
    centres[0] = sample[0]
    distance = ((sample - centres[0]) ** 2).sum(axis=1)
    for k in range(1, size):
        centres[k] = sample[np.argmax(distance)]
        distance = np.minimum(distance, ((sample - centres[k]) ** 2).sum(axis=1))
    for _ in range(rounds):
        label = nearest(sample, centres)
        count = np.bincount(label, minlength=size)
        for c in range(3):
            total = np.bincount(label, weights=sample[:, c], minlength=size)
            centres[:, c] = np.where(count > 0, total / np.maximum(count, 1), centres[:, c])
    return centres


def nearest(pixels: Array, palette: Array) -> Index:
    """Index (N,) of the palette colour nearest to each pixel (N, 3)."""
    distance = (palette * palette).sum(axis=1) - 2.0 * (pixels @ palette.T)
    return np.argmin(distance, axis=1)


def to_palette(photo: Array, palette: Array, temperature: float = 0.0, tone: float = 1.0) -> Array:
    """Replace colours by those of a palette (K, 3).

    Args:
        photo: picture (H, W, 3).
        palette: colours (K, 3).
        temperature: 0 for the nearest colour, about 0.01 for soft blends.
        tone: weight of luminance against chroma in the comparison.
    """
    weights = _opponent(tone)
    pixels, colours = photo.reshape(-1, 3) @ weights, palette @ weights
    if temperature == 0.0:
        return palette[nearest(pixels, colours)].reshape(photo.shape)
    distance = (colours * colours).sum(axis=1) - 2.0 * (pixels @ colours.T)
    distance -= distance.min(axis=1, keepdims=True)
    share = np.exp(-distance / temperature)
    return ((share @ palette) / share.sum(axis=1, keepdims=True)).reshape(photo.shape)


def _opponent(tone: float) -> Array:
    """Columns (3, 3): luminance, red-green, blue-yellow; a cheap perceptual space."""
    columns = [_LUMA * (1.6 * tone), [0.7, -0.7, 0.0], [0.35, 0.35, -0.7]]
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)


# --- cells -----------------------------------------------------------------------------------


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
    """Mean colour (cells, 3) of each label (H, W); empty cells are 0."""
    flat = label.ravel()
    count = np.maximum(np.bincount(flat, minlength=cells), 1)
    return np.stack(
        [
            np.bincount(flat, weights=picture[..., c].ravel(), minlength=cells) / count
            for c in range(3)
        ],
        axis=1,
    ).astype(np.float32)


# --- strokes ---------------------------------------------------------------------------------


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
        y: centre rows (N,).
        x: centre columns (N,).
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
