"""Painters that change the material or the weather: paper, wool, marble, night, fire, frost."""

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.cells import cell_means
from clipmamba.train.painters.brushes.flow import edge_flow, hatching
from clipmamba.train.painters.brushes.lines import contours
from clipmamba.train.painters.brushes.noise import noise, paper, shifted
from clipmamba.train.painters.brushes.palette import learn_palette, to_palette
from clipmamba.train.painters.brushes.smoothing import blur, simplify
from clipmamba.train.painters.brushes.strokes import relief
from clipmamba.train.painters.brushes.tone import (
    Array,
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

_SHEETS = (
    "1d2b3a 34566b 6f93a0 c9c5ac f4e9d3",
    "2b1b2e 6b2f4a b5525c e59b76 f8e2c4",
    "16302b 2f5d50 6d9a78 c6cf9c f5f1d8",
    "2a2233 574b7c 9a7fb0 e0b3bd fbe9e0",
)


def paper_cut(photo: Array, rng: np.random.Generator) -> Array:
    """Layers of cut paper, light above dark, each with its soft shadow on the one below."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(blur(simplify(photo, scale, passes=2), 0.7 * scale)), 3, 97)
    sheets = rgbs(_SHEETS[int(rng.integers(len(_SHEETS)))])
    own = learn_palette(saturate(photo, 1.3), 5, rng)
    own = own[np.argsort(luma(own[None])[0])]
    sheets = (0.6 * sheets + 0.4 * own).astype(np.float32)
    cuts = 0.5 * np.quantile(tone, [0.2, 0.4, 0.6, 0.8]) + 0.5 * np.array([0.2, 0.4, 0.6, 0.8])
    depth = max(1, round(1.6 * scale))
    texture = 1 + 0.028 * paper(shape, rng, scale)
    picture = np.ones_like(photo) * sheets[0]
    for cut, color in zip(cuts, sheets[1:], strict=True):
        mask = smoothstep(float(cut) - 0.02, float(cut) + 0.02, tone)
        # The lamp hangs at the upper left.
        shadow = blur(shifted(mask, depth, depth), 1.3 * scale)
        picture = picture * (1 - 0.55 * shadow * (1 - mask))[..., None]
        rim = np.clip(mask - blur(mask, 0.8 * scale), 0, 1)
        picture = mix(picture, np.ones_like(photo) * color + 0.35 * rim[..., None], mask)
    return finish(picture * texture[..., None])


def knitted(photo: Array, rng: np.random.Generator) -> Array:
    """Stocking stitch: rows of wool Vs in a few yarns."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    wide = tall = max(4, grid_step(scale, 5.5))  # fixed: of several, a pixel loss learns the mean
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.3), 0.25)
    y, x = np.indices(shape, dtype=np.float32)
    u = (x % wide) / wide * 2 - 1
    # Legs of the V rise outwards: the row a pixel belongs to bends with it.
    rise = y / tall + 0.75 * np.abs(u)
    row = np.floor(rise).astype(np.intp)
    columns, rows = -(-shape[1] // wide), int(row.max()) + 1
    index = row * columns + (x // wide).astype(np.intp)
    colors = cell_means(lively, index, rows * columns)
    palette = learn_palette(colors[np.unique(index)][None], int(rng.integers(10, 18)), rng)
    colors = to_palette(colors[None], palette)[0]
    across = (rise - row) * 2 - 1
    leg = (np.abs(u) - 0.5) * 2
    body = np.sqrt(np.clip(1 - 0.75 * across**2, 0, 1)) * np.sqrt(np.clip(1.02 - leg**4, 0, 1))
    twist = np.sin(2 * np.pi * (rise * 1.0 + 1.5 * np.abs(u))) * 0.06
    fuzz = 0.07 * noise(shape, rng, 1.0)
    light = 0.40 + 0.66 * body + twist + fuzz - 0.05 * np.sign(u) * body
    return finish(colors[index] * light[..., None])


def marble(photo: Array, rng: np.random.Generator) -> Array:
    """Carved white marble with gray veins, lit from the side."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(simplify(photo, scale)), 1, 99)
    height = 1.6 * blur(tone, 0.8 * scale) + 2.2 * blur(tone, 2.5 * scale)
    slope = np.tanh(relief(height * scale, 2.6, float(rng.uniform(-2.7, -1.9))))
    veins = np.abs(noise(shape, rng, 30 * scale) + 0.35 * noise(shape, rng, 8 * scale))
    vein = 0.6 * np.exp(-veins * 9) + 0.25 * np.exp(-veins * 2.5)
    clouds = 0.02 * noise(shape, rng, 18 * scale) + 0.008 * noise(shape, rng, 1.2 * scale)
    value = 0.70 + 0.30 * (tone - 0.5) + 0.34 * slope - 0.24 * vein + clouds
    hollow = np.clip(blur(tone, 4 * scale) - tone, 0, 1)
    stops = rgbs("3d3f47 77787d b6b3ae e6e1d8 fdfbf6")
    return finish(ramp(np.clip(value - 0.5 * hollow, 0, 1), [0.1, 0.32, 0.56, 0.8, 1], stops))


def night(photo: Array, rng: np.random.Generator) -> Array:
    """Cold blue night: moonlit forms, warm windows where the photo was brightest and warm."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo), 1, 99)
    dim = tone ** rng.uniform(1.5, 1.9) * 0.72
    moon = ramp(dim, [0, 0.15, 0.4, 0.75], rgbs("040817 0c1d45 2c568f 9cc4e6"))
    picture = moon + 0.22 * (photo - luma(photo)[..., None])
    warm = smoothstep(0.10, 0.30, photo[..., 0] - photo[..., 2]) * smoothstep(0.72, 0.95, tone)
    small = np.clip(warm - 0.9 * blur(warm, 9 * scale), 0, 1)
    glow = small + 0.8 * blur(small, 3 * scale)
    picture = picture + glow[..., None] * np.asarray([0.75, 0.45, 0.12], np.float32)
    return finish(picture + 0.012 * noise(shape, rng, 1.1 * scale)[..., None])


def fire(photo: Array, rng: np.random.Generator) -> Array:
    """The forms burn: glowing edges, flames licking upwards, embers in the dark."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(simplify(photo, scale)), 1, 99)
    edge = contours(tone, 1.0 * scale, edge_flow(tone, scale), 0.1, 0.7)
    source = 0.55 * tone**1.6 + 0.75 * edge
    # Heat rises: each step lifts the picture, thins it and lets it waver.
    flame: Array = source
    licks = np.zeros_like(source)
    lift = max(1, round(1.5 * scale))
    for step in range(7):
        flame = shifted(flame, -lift, 0)
        waver = 0.72 + 0.16 * noise(shape, rng, (2.5 + 0.7 * step) * scale)
        flame = blur(flame, 0.35 * scale) * waver
        licks = np.maximum(licks, flame)
    heat = 0.62 * source + 0.62 * licks + 0.035 * noise(shape, rng, 3 * scale)
    stops = rgbs("0a0303 4a0a04 b4230a f2730f ffc93a fff6c8")
    picture = ramp(np.clip(heat, 0, 1), [0.02, 0.2, 0.4, 0.62, 0.84, 1], stops)
    return finish(picture + 0.25 * blur(np.clip(picture - 0.5, 0, 1), 4 * scale))


def frost(photo: Array, rng: np.random.Generator) -> Array:
    """Ice and hoarfrost: pale blue, needles of rime along every edge."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo), 1, 99)
    base = ramp(
        0.12 + 0.88 * tone, [0, 0.3, 0.6, 0.85, 1], rgbs("14304f 3d7ba6 8fc3dd d8eef6 ffffff")
    )
    picture: Array = base + 0.25 * (photo - luma(photo)[..., None])
    needles: Array = np.zeros(shape, np.float32)
    start = rng.uniform(0, np.pi)
    for turn in (0.0, np.pi / 3, 2 * np.pi / 3):
        ray = hatching(shape, rng, float(start + turn), 1.0 * scale, 9 * scale)
        needles = np.maximum(needles, smoothstep(0.7, 2.0, ray))
    edge = smoothstep(0.02, 0.14, blur(np.abs(tone - blur(tone, 1.5 * scale)), 2.2 * scale))
    crust = smoothstep(-0.3, 1.6, noise(shape, rng, 20 * scale))
    rime = needles * np.clip(0.25 + 0.75 * edge + 0.25 * crust, 0, 1)
    line = contours(tone, 0.8 * scale, edge_flow(tone, scale))
    picture = mix(picture, np.ones_like(photo), np.clip(0.8 * rime + 0.45 * line, 0, 1))
    sparkle = smoothstep(2.4, 3.2, noise(shape, rng, 1.1 * scale))
    return finish(picture + sparkle[..., None])


def thermal(photo: Array, rng: np.random.Generator) -> Array:
    """Heat camera: soft forms from violet cold to white heat."""
    scale = scale_of(photo)
    tone = stretch(luma(blur(photo, rng.uniform(0.8, 1.3) * scale)), 1, 99)
    if rng.random() < 0.5:
        stops = rgbs("05020f 3b0a6b a3197a ee5a24 fdb515 fffbd6")
    else:
        stops = rgbs("0a0a5c 1446d2 12c7c0 6fe03a fbd914 f02a12")
    return finish(ramp(tone, [0, 0.2, 0.42, 0.64, 0.84, 1], stops))


def golden_hour(photo: Array, rng: np.random.Generator) -> Array:
    """Low sun: amber light, violet shade, haze."""
    scale = scale_of(photo)
    tone = stretch(luma(photo), 1, 99)
    grade = ramp(tone, [0, 0.3, 0.6, 0.85, 1], rgbs("22122b 7a3a3a d9833f fcc56a fff1c9"))
    picture = mix(saturate(photo, 1.2), grade, rng.uniform(0.6, 0.72))
    haze = blur(np.clip(tone - 0.45, 0, 1), 9 * scale)
    return finish(picture + haze[..., None] * np.asarray(rgb("ffb347"), np.float32) * 0.45)
