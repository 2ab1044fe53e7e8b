"""Painters that divide the picture into pieces: pixels, tiles, panes, facets, stitches."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import Delaunay
from skimage.segmentation import watershed

from clipmamba.train.painters.brushes.cells import cell_means, jittered_grid, sample
from clipmamba.train.painters.brushes.flow import Flow, blend_angles, hatching, tangent
from clipmamba.train.painters.brushes.lines import edge_strength, outlines
from clipmamba.train.painters.brushes.noise import noise
from clipmamba.train.painters.brushes.palette import learn_palette, nearest, to_palette
from clipmamba.train.painters.brushes.smoothing import blur, simplify
from clipmamba.train.painters.brushes.strokes import lay_strokes
from clipmamba.train.painters.brushes.tone import (
    Array,
    Index,
    finish,
    grid_step,
    luma,
    mix,
    ramp,
    rgb,
    rgbs,
    saturate,
    scale_of,
    smoothstep,
    stretch,
    vibrance,
    with_luma,
)

Points = npt.NDArray[np.float64]

_BAYER = (
    np.array(
        [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]],
        dtype=np.float32,
    )
    / 16.0
    - 0.47
)


def pixel_art(photo: Array, rng: np.random.Generator) -> Array:
    """Constant square blocks in a small palette, sometimes with an ordered dither."""
    height, width = photo.shape[:2]
    block = grid_step(scale_of(photo), 5.5)  # fixed: of several, a pixel loss learns the mean
    rows, columns = -(-height // block), -(-width // block)
    gray = luma(photo)
    lively = vibrance(saturate(with_luma(photo, 0.35 * gray + 0.65 * stretch(gray)), 1.25), 0.25)
    ink = outlines(blur(gray, 0.3 * block), 0.28 * block, 0.02, 0.10)
    lively = lively * (1 - 0.55 * ink[..., None])
    index = (np.arange(height) // block)[:, None] * columns + np.arange(width) // block
    small = cell_means(lively, index, rows * columns).reshape(rows, columns, 3)
    # Sharpen among blocks: a sprite keeps its edges.
    small = np.clip(small + 0.7 * (small - blur(small, 1.0)), 0, 1)
    palette = learn_palette(small, int(rng.integers(10, 22)), rng)
    palette = np.round(palette * 15) / 15
    if rng.random() < 0.4:
        tiles = np.tile(_BAYER, (rows // 4 + 1, columns // 4 + 1))[:rows, :columns]
        small = small + 0.13 * tiles[..., None]
    small = to_palette(small, palette.astype(np.float32))
    return finish(small.reshape(-1, 3)[index])


def mosaic(photo: Array, rng: np.random.Generator) -> Array:
    """Tesserae on a grid, turned along the edges, in few stone colors, with grout."""
    height, width = shape = photo.shape[:2]
    scale = scale_of(photo)
    step = max(4, grid_step(scale, 5.0))  # fixed: of several, a pixel loss learns the mean
    angle, coherence = tangent(luma(photo), 4.0 * scale)
    base = rng.uniform(-0.1, 0.1)
    angle = blend_angles(np.full(shape, base, np.float32), angle, np.clip(1.6 * coherence, 0, 1))
    columns = int(width / step) + 4
    rows = int(height / step) + 4
    gy, gx = np.mgrid[:rows, :columns].astype(np.float32)
    cy = (gy - 1.5 + rng.uniform(-0.06, 0.06, gy.shape)) * step
    cx = (gx - 1.5 + rng.uniform(-0.06, 0.06, gy.shape)) * step
    cy, cx = cy.astype(np.float32), cx.astype(np.float32)
    turn = sample(angle, cy.ravel(), cx.ravel()).reshape(gy.shape)
    cos, sin = np.cos(turn), np.sin(turn)
    # Cell of each pixel: the nearest center by a square metric turned with the edge.
    y, x = np.indices(shape, dtype=np.float32)
    iy = np.rint(y / step + 1.5).astype(np.intp)
    first = np.full(shape, 1e9, np.float32)
    second = first.copy()
    label = np.zeros(shape, np.intp)
    for oy in (-1, 0, 1):
        row = np.clip(iy + oy, 0, rows - 1)
        middle = np.rint(x / step + 1.5).astype(np.intp)
        for ox in (-1, 0, 1):
            at = row * columns + np.clip(middle + ox, 0, columns - 1)
            dy, dx = y - cy.ravel()[at], x - cx.ravel()[at]
            c, s = cos.ravel()[at], sin.ravel()[at]
            u, v = np.abs(dx * c + dy * s), np.abs(dy * c - dx * s)
            distance = np.maximum(u, v) + 0.12 * (u + v)
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            label = np.where(closer, at, label)
            first = np.where(closer, distance, first)
    seam = second - first
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.25), 0.22)
    colors = cell_means(lively, label, rows * columns)
    palette = learn_palette(colors[np.unique(label)][None], int(rng.integers(16, 28)), rng)
    colors = palette[nearest(colors, palette)]
    colors = colors * rng.uniform(0.86, 1.12, (len(colors), 1)).astype(np.float32)
    picture = colors[label]
    # A lit upper edge and a grain make stone of it.
    tilt = (x - cx.ravel()[label]) + (y - cy.ravel()[label])
    picture = picture * (1 - 0.10 * np.clip(tilt / step, -1, 1))[..., None]
    picture = picture * (1 + 0.03 * noise(shape, rng, 1.2 * scale))[..., None]
    grout_width = max(0.9, rng.uniform(0.12, 0.16) * step)
    grout = 1 - smoothstep(grout_width * 0.5, grout_width * 1.5 + 0.4, seam)
    tone = rgb("c9bfab") if rng.random() < 0.45 else rgb("3b3733")
    return finish(mix(picture, tone, 0.92 * grout))


def _panes(photo: Array, rng: np.random.Generator, step: float, compactness: float) -> Index:
    """Cells (H, W), numbered from 0, of about `step` pixels with borders on the photo's edges."""
    height, width = shape = photo.shape[:2]
    y, x = jittered_grid(shape, rng, step, 0.33, brick=True)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    edge = blur(edge_strength(photo, 0.9), 0.7)
    markers = np.zeros(shape, np.int32)
    markers[y[inside].astype(np.intp), x[inside].astype(np.intp)] = np.arange(1, inside.sum() + 1)
    cost = edge / (np.percentile(edge, 95) + 0.01)
    label: Index = watershed(cost, markers, compactness=compactness).astype(np.intp) - 1
    return label


def _seams(label: Index) -> Array:
    """1 where a pixel's right or lower neighbor is of another cell (H, W)."""
    seam = np.zeros(label.shape, np.float32)
    seam[:, :-1] += label[:, :-1] != label[:, 1:]
    seam[:-1] += label[:-1] != label[1:]
    return np.minimum(seam, 1.0)


def stained_glass(photo: Array, rng: np.random.Generator) -> Array:
    """Glowing panes that follow the edges, held by dark lead."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    step = rng.uniform(10.0, 13.5) * scale
    gray = luma(photo)
    vivid = with_luma(photo, 0.1 + 0.9 * stretch(gray, 3, 97))
    label = _panes(simplify(vivid, scale), rng, step, 0.004)
    cells = int(label.max()) + 1
    colors = cell_means(vivid, label, cells)
    colors = _jewel(colors, rng)
    lead = max(0.7, 0.85 * scale)
    line = blur(_seams(label), lead)
    line = smoothstep(0.16, 0.34, line)
    inside = ndimage.distance_transform_edt(_seams(label) < 0.5).astype(np.float32)
    glow = 1 - np.exp(-inside / (2.6 * scale))
    glass = colors[label] * (0.72 + 0.42 * glow)[..., None]
    streaks = noise(shape, rng, 5.0 * scale) * 0.05 + noise(shape, rng, 1.5 * scale) * 0.025
    glass = (
        glass * (1 + streaks)[..., None]
        + (0.10 * glow * smoothstep(0.45, 0.9, luma(glass)))[..., None]
    )
    rim = smoothstep(0.34, 0.9, blur(_seams(label), lead)) * 0.10
    dark = np.array(rgb("14120f"), np.float32) + rim[..., None]
    return finish(glass + (dark - glass) * line[..., None])


def _jewel(colors: Array, rng: np.random.Generator) -> Array:
    """Push colors (N, 3) to the jewel tones of glass; grays take a random tint."""
    row = colors[None]
    row = vibrance(saturate(row, 2.2), 0.75)[0]
    jewels = rgbs("b3122d d8701c e8b62c 2f8f4e 13695f 1f5fae 2a3a8f 5d2f86 a3cfe0 f2e3b3 8a4a22")
    pick = jewels[nearest(row, jewels)]
    share = rng.uniform(0.35, 0.65)
    out = row * (1 - share) + pick * share
    light = luma(colors[None])[0]
    target = 0.16 + 0.74 * light
    out = out * (target / np.maximum(luma(out[None])[0], 0.08))[:, None] ** 0.75
    return np.clip(out * rng.uniform(0.88, 1.12, (len(out), 1)), 0, 1).astype(np.float32)


def _edge_points(photo: Array, rng: np.random.Generator, step: float) -> Points:
    """Points (N, 2) as (x, y): one a grid cell, on its strongest edge, plus the border."""
    height, width = photo.shape[:2]
    edge = edge_strength(photo, 0.8)
    block = max(3, round(step))
    rows, columns = -(-height // block), -(-width // block)
    padded = np.zeros((rows * block, columns * block), np.float32)
    padded[:height, :width] = edge + rng.uniform(0, 0.015, edge.shape)
    cells = padded.reshape(rows, block, columns, block).transpose(0, 2, 1, 3)
    best = cells.reshape(rows, columns, -1).argmax(axis=2)
    y = np.arange(rows)[:, None] * block + best // block
    x = np.arange(columns)[None] * block + best % block
    # Calm cells keep one point in three: large facets where nothing happens.
    strong = cells.reshape(rows, columns, -1).max(axis=2)
    keep = (strong > 0.05) | (rng.random(strong.shape) < 0.35)
    inner = np.stack([x[keep], y[keep]], axis=1)
    along_x = np.linspace(0, width, max(3, round(width / (1.6 * step))))
    along_y = np.linspace(0, height, max(3, round(height / (1.6 * step))))[1:-1]
    border = np.concatenate(
        [
            np.stack([along_x, np.zeros_like(along_x)], 1),
            np.stack([along_x, np.full_like(along_x, height)], 1),
            np.stack([np.zeros_like(along_y), along_y], 1),
            np.stack([np.full_like(along_y, width), along_y], 1),
        ]
    )
    return np.concatenate([inner + 0.5, border]).astype(np.float64)


def low_poly(photo: Array, rng: np.random.Generator) -> Array:
    """Flat triangles (Delaunay) with their corners on the edges of the photo."""
    height, width = photo.shape[:2]
    scale = scale_of(photo)
    points = _edge_points(photo, rng, rng.uniform(7.5, 10.5) * scale)
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.3), 0.2)
    soft = blur(lively, 0.9 * scale)
    corners = points[Delaunay(points).simplices]
    center = corners.mean(axis=1)
    inset = corners * 0.55 + center[:, None] * 0.45
    spots = np.concatenate([center[:, None], inset], axis=1)
    colors = sample(soft, spots[..., 1].ravel() - 0.5, spots[..., 0].ravel() - 0.5)
    colors = colors.reshape(-1, 4, 3).mean(axis=1)
    # Each facet leans its own way to one lamp.
    edge = corners[:, 1] - corners[:, 0]
    lean = np.cos(2 * np.arctan2(edge[:, 1], edge[:, 0]) + rng.uniform(0, 6.28))
    colors = colors * (1 + 0.05 * lean + rng.uniform(-0.04, 0.04, len(lean)))[:, None]
    return finish(_draw_polygons(corners, colors, (height, width)))


def _draw_polygons(
    corners: Points, colors: Array, shape: tuple[int, int], oversample: int = 3
) -> Array:
    """Fill polygons (N, K, 2) of (x, y) with flat colors (N, 3), antialiased."""
    height, width = shape
    canvas = Image.new("RGB", (width * oversample, height * oversample))
    draw = ImageDraw.Draw(canvas)
    fills = (np.clip(colors, 0, 1) * 255 + 0.5).astype(np.uint8)
    for polygon, fill in zip((corners * oversample).tolist(), fills.tolist(), strict=True):
        draw.polygon([tuple(point) for point in polygon], fill=tuple(fill))
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


def cubism(photo: Array, rng: np.random.Generator) -> Array:
    """Overlapping planes shaded away from straight edges, ochre and gray, after Braque."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale)
    gray = stretch(luma(flat), 2, 98)
    angle, _ = tangent(gray, 2.0 * scale)
    edge = edge_strength(flat, 1.0 * scale)
    # Straight cuts grow out of the photo's own edges; tone falls away from one side of each.
    count = 30
    chance = (edge + 0.15 * float(edge.mean()) + 1e-4).ravel().astype(np.float64)
    place = rng.choice(chance.size, count, replace=False, p=chance / chance.sum())
    y0, x0 = np.divmod(place, shape[1])
    turn = angle[y0, x0] + rng.normal(0, 0.12, count) + (np.arange(count) % 3 == 0) * (np.pi / 2)
    reach = rng.uniform(14, 42, count) * scale
    depth = rng.uniform(7, 15, count) * scale
    side = rng.choice([-1.0, 1.0], count)
    y, x = np.indices(shape, dtype=np.float32)
    plane = np.zeros(shape, np.float32)
    cuts = np.zeros(shape, np.float32)
    warm = np.zeros(shape, np.float32)
    for k in range(count):
        cos, sin = np.float32(np.cos(turn[k])), np.float32(np.sin(turn[k]))
        dy, dx = y - np.float32(y0[k]), x - np.float32(x0[k])
        along, away = dx * cos + dy * sin, (dy * cos - dx * sin) * np.float32(side[k])
        inside = np.clip((np.float32(reach[k]) - np.abs(along)) + 0.5, 0, 1)
        front = np.clip(away + 0.5, 0, 1) * inside
        fade = np.exp(-np.maximum(away, 0) / np.float32(depth[k])) * front
        plane += np.float32(rng.uniform(0.22, 0.40) * rng.choice([-1.0, 1.0])) * fade
        warm += np.float32(rng.normal(0, 0.5)) * fade
        cuts = np.maximum(cuts, np.clip(1.1 - np.abs(away) / (0.55 * scale), 0, 1) * inside)
    facets = _edge_points(flat, rng, rng.uniform(17.0, 23.0) * scale)
    corners = facets[Delaunay(facets).simplices]
    facet = _facet_index(corners, shape)
    tone = cell_means(np.repeat(gray[..., None], 3, 2), facet, len(corners))[facet][..., 0]
    value = np.clip(0.5 * tone + 0.5 * gray, 0.04, 0.96) * 0.86 + 0.07 + 0.85 * plane
    ochre = ramp(value, [0, 0.25, 0.5, 0.75, 1], rgbs("1d1510 5c4326 a07a43 cfae72 f0e2bd"))
    cool = ramp(value, [0, 0.25, 0.5, 0.75, 1], rgbs("15181a 3c4648 78837c b2b6a6 e6e2d0"))
    chroma = blur(photo[..., 0] - photo[..., 2], 2 * scale)
    picture = mix(cool, ochre, smoothstep(-0.45, 0.45, warm + 2.5 * chroma))
    picture = mix(picture, with_luma(saturate(flat, 1.2), value), 0.20)
    line = outlines(gray, 1.0 * scale, 0.02, 0.07, Flow(angle, max(2, round(4 * scale))))
    ink = np.maximum(cuts * (0.35 + 0.55 * smoothstep(0.8, 0.35, value)), 0.8 * line)
    picture = mix(picture, rgb("1a130d"), ink)
    dabs = hatching(shape, rng, float(rng.uniform(0, 3.1)), 1.8 * scale, 5 * scale)
    return finish(picture * (1 + 0.035 * dabs)[..., None])


def _facet_index(corners: Points, shape: tuple[int, int]) -> Index:
    """Number of the polygon (N, K, 2) at each pixel (H, W)."""
    canvas = Image.new("I", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for number, polygon in enumerate(corners.tolist()):
        draw.polygon([tuple(point) for point in polygon], fill=number)
    return np.asarray(canvas).astype(np.intp)


def cross_stitch(photo: Array, rng: np.random.Generator) -> Array:
    """Little thread crosses in counted colors on woven cloth."""
    height, width = shape = photo.shape[:2]
    scale = scale_of(photo)
    step = max(4, grid_step(scale, 5.0))  # fixed: of several, a pixel loss learns the mean
    rows, columns = -(-height // step), -(-width // step)
    index = (np.arange(height) // step)[:, None] * columns + np.arange(width) // step
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.3), 0.25)
    small = cell_means(lively, index, rows * columns).reshape(rows, columns, 3)
    small = np.clip(small + 0.5 * (small - blur(small, 1.0)), 0, 1)
    palette = learn_palette(small, int(rng.integers(12, 22)), rng)
    colors = to_palette(small, palette).reshape(-1, 3)
    y = ((np.arange(height) % step) + 0.5) / step * 2 - 1
    x = ((np.arange(width) % step) + 0.5) / step * 2 - 1
    v, u = (part.astype(np.float32) for part in np.meshgrid(y, x, indexing="ij"))
    half, soft = 0.36, 0.9 / step
    under, over = np.abs(u - v) / 1.414, np.abs(u + v) / 1.414
    reach = np.maximum(np.abs(u), np.abs(v)) < 0.97
    below = (1 - smoothstep(half - soft, half + soft, under)) * reach
    above = (1 - smoothstep(half - soft, half + soft, over)) * reach
    light_below = 0.74 + 0.20 * (1 - (under / half) ** 2)
    light_above = 0.88 + 0.30 * (1 - (over / half) ** 2)
    cloth = np.asarray(rgb("efe6d2"), np.float32) * (
        0.86 - 0.16 * np.cos(np.pi * u)[..., None] * np.cos(np.pi * v)[..., None]
    )
    if rng.random() < 0.3:
        cloth = cloth * np.asarray(rgb("5b6472"), np.float32)
    thread = colors[index] * (1 + 0.05 * noise(shape, rng, 1.0))[..., None]
    # Thread covers most of the cloth: what is left between the crosses takes its color.
    cloth = mix(cloth, colors[index], 0.45)
    picture = mix(cloth, thread * light_below[..., None], below)
    return finish(mix(picture, thread * light_above[..., None], above))


def embroidery(photo: Array, rng: np.random.Generator) -> Array:
    """Satin stitches of shiny thread that follow the forms, in few colors."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.35), 0.28)
    flat = simplify(lively, scale)
    palette = learn_palette(flat, int(rng.integers(12, 18)), rng)
    angle, coherence = tangent(luma(flat), 5.0 * scale)
    base = np.full(shape, rng.uniform(0.5, 1.1), np.float32)
    angle = blend_angles(base, angle, smoothstep(0.15, 0.6, coherence))
    # Gaps between stitches are shadow of the thread itself.
    picture = 0.55 * flat * (1 + 0.08 * noise(shape, rng, 1.0))[..., None]
    for _ in range(2):
        y, x = jittered_grid(shape, rng, 2.5 * scale, 0.5)
        order = rng.permutation(len(y))
        y, x = y[order], x[order]
        turn = sample(angle, y, x) + rng.normal(0, 0.07, len(y)).astype(np.float32)
        length = rng.uniform(8.0, 11.0, len(y)) * scale
        layer = lay_strokes(shape, y, x, turn, length, 2.3 * scale, squareness=4)
        colors = palette[nearest(sample(flat, y, x), palette)]
        colors = colors * rng.uniform(0.86, 1.14, (len(y), 1)).astype(np.float32)
        round_light = 1.14 - 0.40 * layer.v**2 - 0.16 * layer.u**4
        sheen = 0.10 * np.exp(-(((layer.u - 0.1) / 0.35) ** 2) - ((layer.v + 0.3) / 0.4) ** 2)
        stitch = colors[layer.owner] * round_light[..., None] + sheen[..., None]
        picture = mix(picture, stitch, layer.alpha)
    return finish(picture)
