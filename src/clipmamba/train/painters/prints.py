"""Painters of the printing press: dots, flat inks, blocks, posters."""

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.flow import Flow, blend_angles, edge_flow, hatching, tangent
from clipmamba.train.painters.brushes.lines import line_drawing, outlines
from clipmamba.train.painters.brushes.noise import noise, paper, shifted
from clipmamba.train.painters.brushes.palette import to_palette
from clipmamba.train.painters.brushes.smoothing import blur, posterise, simplify
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

_TURN = np.cos(np.arange(64) * (2 * np.pi / 64))
_WAVE_SORTED = np.sort((_TURN[:, None] + _TURN).ravel())
_WAVE_RANK = (np.arange(_WAVE_SORTED.size) + 0.5) / _WAVE_SORTED.size


_DIAGONAL = np.sqrt(2)  # dots on a turned grid lie this much closer, and on its whole steps again


def _screen(shape: tuple[int, int], pitch: float, angle: float, shift: float = 0.0) -> Array:
    """Threshold of a dot screen (H, W) in [0, 1]: ink where the tone's darkness exceeds it."""
    y, x = np.indices(shape, dtype=np.float32) + np.float32(0.5 + shift)
    turn = 2 * np.pi / pitch
    u = (x * np.cos(angle) + y * np.sin(angle)) * turn
    v = (y * np.cos(angle) - x * np.sin(angle)) * turn
    # Rank of the wave among its values: the inked area then equals the darkness.
    rank = np.interp(-np.cos(u) - np.cos(v), _WAVE_SORTED, _WAVE_RANK)
    return np.asarray(rank, dtype=np.float32)


def _dots(darkness: Array, screen: Array, pitch: float) -> Array:
    """Ink cover (H, W) of antialiased dots for a darkness in [0, 1]."""
    soft = 0.9 / pitch
    cover = smoothstep(-soft, soft, darkness * (1 + 2 * soft) - soft - screen)
    return np.asarray(cover, dtype=np.float32)


def halftone(photo: Array, rng: np.random.Generator) -> Array:
    """Four-color print dots on turned screens."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    step = max(3, grid_step(scale, 4))
    lively = vibrance(saturate(with_luma(photo, stretch(luma(photo))), 1.4), 0.2)
    soft = blur(lively, 0.35 * step)
    black = np.clip(1 - soft.max(axis=2), 0, 1)
    key = 0.82 * np.clip((black - 0.25) / 0.75, 0, 1) ** 1.2
    sheet = 1 + 0.02 * paper(shape, rng, scale)[..., None]
    picture = np.asarray(rgb("faf6ea"), np.float32) * sheet
    inks = ("00a0dc", "e3147f", "ffe500", "1a1718")
    # Angles and shifts keep the four screens apart and yet on one grid, which can be learned.
    screens = (
        _screen(shape, step, 0.0),
        _screen(shape, step, 0.0, step / 2),
        _screen(shape, step / 2, 0.0),
        _screen(shape, step / _DIAGONAL, np.pi / 4),
    )
    for channel, (ink, screen) in enumerate(zip(inks, screens, strict=True)):
        darkness = key if channel == 3 else np.clip(1 - soft[..., channel] - 0.45 * key, 0, 1)
        cover = _dots(darkness, screen, step)
        picture = picture * (1 - cover[..., None] * (1 - np.asarray(rgb(ink), np.float32)))
    return finish(picture)


def newsprint(photo: Array, rng: np.random.Generator) -> Array:
    """Black dots on gray newspaper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    pitch = max(3, grid_step(scale, 4)) / _DIAGONAL
    gray = stretch(luma(photo))
    gray = np.clip(gray + 0.7 * (gray - blur(gray, 2 * scale)), 0, 1)
    cover = _dots(1 - gray, _screen(shape, pitch, np.pi / 4), pitch)
    sheet = (
        np.asarray(rgb("e4dfd0"), np.float32) * (1 + 0.025 * paper(shape, rng, scale))[..., None]
    )
    return finish(mix(sheet, rgb("242322"), cover * 0.95))


def comic_book(photo: Array, rng: np.random.Generator) -> Array:
    """Flat strong colors, black ink outlines and dot shading."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = luma(photo)
    bright = with_luma(photo, 0.08 + 0.92 * stretch(gray, 2, 97))
    flat = simplify(vibrance(saturate(bright, 1.7), 0.35), scale, passes=3)
    tone = luma(flat)
    steps = posterise(tone, 4, 0.12)
    colored = with_luma(flat, 0.25 + 0.75 * steps)
    colored = np.round(saturate(colored, 1.25) * 6) / 6 * 0.6 + saturate(colored, 1.25) * 0.4
    pitch = max(3, grid_step(scale, 4)) / _DIAGONAL
    shade = smoothstep(0.62, 0.2, tone)
    dots = _dots(0.62 * shade, _screen(shape, pitch, np.pi / 4), pitch)
    picture = colored * (1 - 0.42 * dots)[..., None]
    flow = edge_flow(tone, scale)
    width = float(rng.uniform(1.3, 1.7))
    line = line_drawing(photo, scale, width, flow)
    solid = smoothstep(0.17, 0.09, blur(tone, 0.6 * scale))
    ink = np.maximum(line, solid)
    return finish(picture * (1 - 0.96 * ink)[..., None])


_POP = (
    "1b1464 e6007e ffd500 ffffff",
    "0d0d0d e4002b 00a3e0 ffe600",
    "3d0a5b ff4f1f 2ad4c9 fff275",
    "10204a d7005f ff8f00 7be0f0",
    "141414 6a2bd9 ff5fa2 c8f04a",
    "0b2d2a e63a11 f9c80e f7b2d9",
)


def pop_art(photo: Array, rng: np.random.Generator) -> Array:
    """Screen print in a few loud inks laid by tone, after Warhol."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale, passes=2)
    gray = stretch(luma(flat), 3, 97)
    inks = rgbs(_POP[int(rng.integers(len(_POP)))])
    if rng.random() < 0.5:
        inks = inks[[0, 2, 1, 3]]
    # Equal shares of the sheet for each ink, whatever the photo's exposure.
    cuts = np.quantile(gray, [0.24, 0.5, 0.76])
    cuts = 0.5 * cuts + 0.5 * np.array([0.25, 0.5, 0.75])
    edge = 0.018
    picture = np.broadcast_to(inks[0], photo.shape).astype(np.float32)
    for cut, ink in zip(cuts, inks[1:], strict=True):
        picture = mix(picture, ink, smoothstep(float(cut) - edge, float(cut) + edge, gray))
    # Strong colors of the photo show as a misregistered flat.
    chroma = photo.max(axis=2) - photo.min(axis=2)
    area = smoothstep(0.3, 0.42, blur(chroma, 1.5 * scale)) * smoothstep(0.2, 0.35, gray)
    picture = mix(picture, np.round(saturate(flat, 2.5) * 2) / 2, 0.6 * area)
    line = line_drawing(photo, scale, 1.3, edge_flow(gray, scale))
    picture = mix(picture, inks[0], line)
    return finish(picture * (1 + 0.02 * noise(shape, rng, 1.2 * scale))[..., None])


def _gouges(
    gray: Array, rng: np.random.Generator, pitch: float, angle: float, scale: float
) -> Array:
    """Threshold (H, W) of carved lines that bend with the forms; use like a dot screen."""
    shape = gray.shape
    y, x = np.indices(shape, dtype=np.float32)
    form = blur(gray, 4.0 * scale) * (2.6 * pitch) + 0.8 * pitch * 0.25 * noise(
        shape, rng, 22 * scale
    )
    across = y * np.cos(angle) - x * np.sin(angle) + form
    wave = np.abs(((across / pitch + rng.uniform(0, 1)) % 1.0) * 2 - 1)
    length = noise(shape, rng, 1.0)
    smear = Flow(np.full(shape, angle, np.float32), round(5 * scale)).smooth(length)
    return np.asarray(wave + 0.55 * smear, dtype=np.float32)


def woodcut(photo: Array, rng: np.random.Generator) -> Array:
    """Black block print on warm paper: solid darks, carved lines in the halftones."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale, passes=1)
    gray = stretch(luma(flat), 3, 97)
    gray = np.clip(gray + 0.5 * (gray - blur(gray, 6 * scale)), 0, 1)
    pitch = max(3.0, rng.uniform(3.4, 4.4) * scale)
    screen = _gouges(gray, rng, pitch, float(rng.uniform(-0.5, 0.9)), scale)
    darkness = 1 - gray
    ink = smoothstep(-0.22, 0.22, darkness * 1.5 - 0.28 - screen)
    ink = np.maximum(ink, smoothstep(0.70, 0.80, darkness))
    ink = ink * smoothstep(0.16, 0.26, darkness)
    line = outlines(gray, 1.0 * scale, 0.015, 0.045, edge_flow(gray, scale))
    # Light side of an edge is cut clean: a white line beside the black.
    cut = outlines(1 - gray, 1.0 * scale, 0.02, 0.06)
    ink = np.maximum(ink * (1 - 0.9 * cut), line)
    grain = hatching(
        shape, rng, float(rng.choice([0.0, np.pi / 2])), 1.0 * scale, round(16 * scale)
    )
    sheet = np.asarray(rgb("efe4c9"), np.float32) * (1 + 0.02 * paper(shape, rng, scale))[..., None]
    ink = ink * (1 - 0.16 * smoothstep(0.8, 2.2, grain))
    return finish(mix(sheet, rgb("171310"), 0.97 * ink))


def linocut(photo: Array, rng: np.random.Generator) -> Array:
    """Bold relief print in one colored ink with gouge marks left in the ground."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(simplify(photo, scale)), 3, 97)
    gray = np.clip(gray + 0.9 * (gray - blur(gray, 7 * scale)), 0, 1)
    angle, coherence = tangent(gray, 4 * scale)
    base = np.full(shape, rng.uniform(0, 3.1), np.float32)
    angle = blend_angles(base, angle, smoothstep(0.3, 0.8, coherence))
    flow = Flow(angle, max(2, round(4 * scale)))
    chips = flow.smooth(noise(shape, rng, 1.8 * scale))
    chips = chips / max(float(chips.std()), 1e-6)
    cut = 0.45 * float(np.median(gray)) + 0.24
    # Below the cut solid ink; above it the gouge leaves ridges that thin out with the light.
    above = gray - cut
    ragged = above - 0.055 * (chips - 0.4) * smoothstep(0.3, 0.0, np.abs(above))
    ink = smoothstep(0.03, -0.03, ragged)
    ridges = smoothstep(0.9, 1.3, chips - 3.5 * np.maximum(above - 0.03, 0))
    ink = np.maximum(ink, ridges * smoothstep(0.0, 0.04, above))
    nicks = smoothstep(1.7, 2.1, chips + 1.5 * np.minimum(above + 0.10, 0))
    ink = ink * (1 - nicks * smoothstep(0.0, -0.04, above))
    ink = np.maximum(ink, line_drawing(photo, scale, 1.7, flow))
    ink = ink * (1 - 0.5 * smoothstep(2.1, 2.8, paper(shape, rng, scale)))
    color = rgb(str(rng.choice(["0f1f3d", "7a1712", "12392c", "151515", "3a1a4a"])))
    return finish(mix(np.ones_like(photo) * rgbs("f3ecdc")[0], color, ink))


def engraving(photo: Array, rng: np.random.Generator) -> Array:
    """Banknote lines that swell with the tone, crossed in the darks."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(photo))
    gray = np.clip(gray + 0.8 * (gray - blur(gray, 3 * scale)), 0, 1)
    pitch = max(2.6, rng.uniform(2.8, 3.4) * scale)
    base = rng.uniform(0.5, 1.0)
    y, x = np.indices(shape, dtype=np.float32)
    form = blur(gray, 3.0 * scale) * 2.2 * pitch
    ink = np.zeros(shape, np.float32)
    for turn, start in ((0.0, 0.0), (np.pi / 2.4, 0.45)):
        angle = base + turn
        across = (y * np.cos(angle) - x * np.sin(angle) + form) / pitch
        wave = 0.5 - 0.5 * np.cos(2 * np.pi * across)
        darkness = np.clip((1 - gray - start) / (1 - start), 0, 1)
        soft = 0.75 / pitch
        ink = np.maximum(ink, smoothstep(-soft, soft, darkness * 1.15 - 0.08 - wave))
    ink = np.maximum(ink, outlines(gray, 0.7 * scale, 0.02, 0.06))
    sheet = (
        np.asarray(rgb("f1ead8"), np.float32) * (1 + 0.015 * paper(shape, rng, scale))[..., None]
    )
    return finish(mix(sheet, rgb("1d1c22"), 0.93 * ink))


def ukiyo_e(photo: Array, rng: np.random.Generator) -> Array:
    """Japanese woodblock print: flat indigo, ochre, cream and vermilion, fine dark outlines."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(vibrance(photo, 0.15), scale, passes=3)
    gray = luma(flat)
    tone = stretch(gray, 2, 98)
    flat = with_luma(flat, 0.10 + 0.84 * tone)
    palette = rgbs(
        "1f2f4f 2d4f7c 5b84a6 9fb9bd d9d3b4 f0e4c6 e3c58c c8964c 8a5a33 b8452f d98a6a"
        " 6f8457 3f5a45 3a3230 a9a48c"
    )
    picture = to_palette(flat, palette, temperature=0.008, tone=0.9)
    hard = to_palette(flat, palette, temperature=0.0, tone=0.9)
    picture = 0.5 * picture + 0.5 * blur(hard, 0.5 * scale)
    # Bokashi: the calm top darkens to indigo, as wiped on the block.
    calm = 1 - smoothstep(0.01, 0.06, blur(np.abs(gray - blur(gray, 3 * scale)), 4 * scale))
    top = np.linspace(1, -1.6, shape[0], dtype=np.float32)[:, None] * np.ones(shape, np.float32)
    light = smoothstep(0.35, 0.6, tone)
    bokashi = np.clip(top, 0, 1) ** 1.5 * calm * light
    picture = mix(picture, rgb("2b4a78"), 0.75 * bokashi)
    flow = edge_flow(tone, scale, length=5)
    line = line_drawing(photo, scale, 1.15, flow)
    picture = mix(picture, rgb("1c2230"), 0.92 * line)
    grain = hatching(shape, rng, 0.0, 1.3 * scale, round(28 * scale))
    texture = 0.016 * grain + 0.016 * paper(shape, rng, scale)
    picture = mix(picture, rgb("f0e2c0"), 0.08) * (1 + texture)[..., None]
    return finish(picture)


_POSTERS = (
    "2e2418 6b3f2a a8623c d39a5b ecd2a0 f6ead0 7c8a5a 4f6b62 b9b48a c46a4a",
    "2a2620 5a4a3a 94714c c9a66b e9d6ad f7edd8 6f8f86 3f5f66 a9b79c b5654f",
    "33241d 70462f b07d4b dab777 f0dfb9 faf1de 8c8f5c 5c6440 c9bd8e a34a38",
)


def art_nouveau(photo: Array, rng: np.random.Generator) -> Array:
    """Poster of 1900: flat warm muted colors inside flowing bold contours."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flow = edge_flow(luma(photo), scale, length=4, sigma=2.5)
    flat = simplify(flow.smooth(vibrance(photo, 0.2)), scale, passes=3)
    tone = stretch(luma(flat), 2, 98)
    flat = with_luma(flat, 0.18 + 0.76 * tone)
    palette = rgbs(_POSTERS[int(rng.integers(len(_POSTERS)))])
    hard = blur(to_palette(flat, palette, 0.0, tone=1.0), 0.45 * scale)
    picture = 0.8 * hard + 0.2 * to_palette(flat, palette, 0.01)
    bold = outlines(tone, 1.5 * scale, 0.016, 0.034, flow)
    ink = np.maximum(bold, 0.95 * line_drawing(photo, scale, 1.4, flow))
    halo = outlines(1 - tone, 1.3 * scale, 0.03, 0.07, flow)
    picture = mix(picture, rgb("f6e4b6"), 0.5 * halo)
    picture = mix(picture, rgb("2c1a10"), 0.96 * ink)
    return finish(picture * (1 + 0.012 * paper(shape, rng, scale))[..., None])


def risograph(photo: Array, rng: np.random.Generator) -> Array:
    """Two fluorescent inks, grainy and slightly out of register, on uncoated paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    pairs = (("ff48b0", "0078bf"), ("ff6c2f", "00738a"), ("f15060", "30408c"), ("ffb000", "a02a86"))
    first, second = pairs[int(rng.integers(len(pairs)))]
    tone = stretch(luma(photo), 2, 98)
    warm = np.clip(0.5 + 2.2 * (photo[..., 0] - photo[..., 2]), 0, 1)
    warm_plate = 0.95 * (1 - tone) + 0.45 * warm - 0.10
    cool_plate = 1.08 * (1 - tone) ** 1.3 - 0.25 * warm
    sheet = np.ones_like(photo) * rgbs("f6f1e4")[0]
    for ink, darkness in ((first, warm_plate), (second, cool_plate)):
        grain = rng.uniform(-0.5, 0.5, shape) + 0.14 * noise(shape, rng, 1.2 * scale)
        steps = posterise(np.clip(darkness, 0, 1), 5, 0.3)
        cover = smoothstep(-0.28, 0.28, steps - 0.5 + 0.62 * grain)
        cover = shifted(cover, *rng.integers(-1, 2, 2))
        sheet = sheet * (1 - 0.94 * cover[..., None] * (1 - np.asarray(rgb(ink), np.float32)))
    return finish(sheet)


def duotone(photo: Array, rng: np.random.Generator) -> Array:
    """Dark and light swapped for two strong colors."""
    pairs = (
        ("1d0b4f", "ff6f61", "ffe9b0"),
        ("062b3b", "0fb5a6", "f6f7c1"),
        ("2b0a3d", "e0218a", "ffd1e8"),
        ("0b1d51", "3f7cff", "f4f1de"),
    )
    dark, middle, light = (rgb(code) for code in pairs[int(rng.integers(len(pairs)))])
    tone = stretch(luma(photo))
    return finish(ramp(tone, [0.02, 0.46, 0.95], [dark, middle, light]))
