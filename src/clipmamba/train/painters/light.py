"""Painters of the darkroom, the screen and the workshop: tones, glow, cels, metal."""

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.flow import edge_flow, hatching
from clipmamba.train.painters.brushes.lines import contours, line_drawing
from clipmamba.train.painters.brushes.noise import noise, paper, shifted
from clipmamba.train.painters.brushes.smoothing import blur, posterise, simplify
from clipmamba.train.painters.brushes.strokes import relief
from clipmamba.train.painters.brushes.tone import (
    Array,
    finish,
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


def sepia(photo: Array, rng: np.random.Generator) -> Array:
    """Faded brown albumen print with grain and uneven tone."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(blur(photo, 0.5 * scale)), 1, 99)
    tone = rng.uniform(0.06, 0.14) + 0.80 * smoothstep(-0.02, 1.02, tone)
    tone = tone + 0.018 * noise(shape, rng, 1.1 * scale) + 0.02 * noise(shape, rng, 30 * scale)
    stops = rgbs("20130a 5f3f22 a67c4e dcbd8c f7e8c8")
    return finish(ramp(np.clip(tone, 0, 1), [0, 0.25, 0.5, 0.75, 1], stops))


def cyanotype(photo: Array, rng: np.random.Generator) -> Array:
    """Prussian blue sun print on watercolor paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(blur(photo, 0.4 * scale)), 1, 99)
    tone = smoothstep(-0.05, 1.05, tone) + 0.02 * paper(shape, rng, scale)
    tone = tone + 0.035 * noise(shape, rng, 25 * scale)
    picture = ramp(
        np.clip(tone, 0, 1), [0, 0.25, 0.5, 0.75, 1], rgbs("05193f 0d3a75 2f6fae 9cc3dd f1f6f2")
    )
    # The sensitizer is brushed on in streaks.
    streaks = hatching(shape, rng, float(rng.uniform(-0.15, 0.15)), 3.0 * scale, 60 * scale)
    return finish(picture * (1 + 0.025 * streaks)[..., None])


def noir(photo: Array, rng: np.random.Generator) -> Array:
    """Hard black and white film: deep shadow, bright light, grain."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    red = photo @ np.array([0.5, 0.4, 0.1], np.float32)
    tone = stretch(red, 2, 98)
    tone = smoothstep(0.12, 0.92, np.clip(tone + 0.4 * (tone - blur(tone, 6 * scale)), 0, 1))
    grain = noise(shape, rng, 1.1 * scale) * (0.035 + 0.05 * tone * (1 - tone))
    return finish(tone + grain)


def neon(photo: Array, rng: np.random.Generator) -> Array:
    """Glowing colored tubes along the edges in the dark."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale, passes=1)
    tone = stretch(luma(flat), 1, 99)
    flow = edge_flow(tone, scale, length=5)
    core = contours(tone, 0.8 * scale, flow, 0.3, 0.8)
    tubes = rgbs("ff2bd6 21e6ff 8a3bff ff3b5c 2bff9a ffb52b")
    pair = tubes[rng.permutation(len(tubes))[:3]]
    # Neighboring forms get different tubes: a slow field plus the photo's own hue.
    where = (
        0.5
        + 0.30 * noise(shape, rng, 55 * scale)
        + 1.2 * blur(photo[..., 0] - photo[..., 2], 3 * scale)
    )
    hue = ramp(np.clip(where, 0, 1), [0.15, 0.5, 0.85], pair)
    line = core[..., None] * hue
    glow = (
        0.9 * blur(line, 1.6 * scale) + 1.1 * blur(line, 4.5 * scale) + 0.8 * blur(line, 10 * scale)
    )
    night = np.asarray(rgb("05040f"), np.float32) + 0.06 * hue * tone[..., None]
    white = smoothstep(0.55, 1.0, core)[..., None] * 0.45
    return finish(night + 1.05 * line + glow + white)


def anime(photo: Array, rng: np.random.Generator) -> Array:
    """Cel shading: clean flat color in two tones, thin line, airy light."""
    scale = scale_of(photo)
    tone = luma(photo)
    bright = with_luma(photo, 0.10 + 0.90 * stretch(tone, 1, 96) ** 0.85)
    flat = simplify(vibrance(saturate(bright, 1.5), 0.3), scale, passes=3)
    value = luma(flat)
    cel = posterise(value, int(rng.integers(4, 6)), 0.10)
    picture = saturate(with_luma(flat, 0.25 * value + 0.75 * (0.08 + 0.92 * cel)), 1.15)
    # Shadows go to blue-violet, never to gray.
    picture = picture + smoothstep(0.5, 0.1, value)[..., None] * np.asarray(
        [0.01, -0.01, 0.07], np.float32
    )
    bloom = blur(np.clip(picture - 0.72, 0, 1), 5 * scale)
    picture = 1 - (1 - np.clip(picture, 0, 1)) * (1 - np.clip(0.9 * bloom, 0, 1))
    line = line_drawing(photo, scale, 1.1, edge_flow(value, scale, 5))
    return finish(mix(picture, rgb("241a2c"), 0.9 * line))


def cartoon(photo: Array, rng: np.random.Generator) -> Array:
    """A cel from a cartoon film: few flat bright colors, strong dark outlines."""
    scale = scale_of(photo)
    bright = with_luma(photo, 0.16 + 0.84 * stretch(luma(photo), 2, 96) ** 0.8)
    flat = simplify(vibrance(saturate(bright, 1.45), 0.35), scale, passes=3, radius=1.5)
    value = luma(flat)
    cel = 0.2 + 0.8 * posterise(value, int(rng.integers(3, 5)), 0.08)
    picture = saturate(with_luma(flat, 0.15 * value + 0.85 * cel), 1.25)
    width = float(rng.uniform(1.3, 1.8))
    line = line_drawing(photo, scale, width, edge_flow(value, scale, 6))
    return finish(mix(picture, rgb("1a1420"), 0.97 * line))


def gold_relief(photo: Array, rng: np.random.Generator) -> Array:
    """The picture beaten into gold leaf: light on relief, dark in the hollows."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(simplify(photo, scale, passes=2)), 1, 99)
    lamp = rng.uniform(-2.7, -1.9)
    height = blur(tone, 0.9 * scale) * 2.0 + blur(tone, 3.0 * scale) * 3.0
    height = height + 0.03 * noise(shape, rng, 2.5 * scale) + 0.05 * noise(shape, rng, 8 * scale)
    slope = relief(height * scale, 3.0, lamp)
    shine = 0.52 + 0.34 * (tone - 0.5) + 0.62 * np.tanh(1.2 * slope)
    shine = shine + 0.40 * smoothstep(0.45, 1.1, slope)
    metal = ramp(
        np.clip(shine, 0, 1), [0, 0.2, 0.42, 0.65, 0.85, 1],
        rgbs("2a1503 7a4a0c c48a1c f0bf3c fde58a fffce8"),
    )  # fmt: skip
    return finish(metal)


def vaporwave(photo: Array, rng: np.random.Generator) -> Array:
    """Pink, violet and cyan dusk with scan lines, like a worn video tape of 1988."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo), 1, 99)
    grade = ramp(tone, [0, 0.28, 0.52, 0.78, 1], rgbs("1a0b3b 5a1fa0 f0389c ff9ecf c9fbff"))
    cool = ramp(tone, [0, 0.3, 0.6, 1], rgbs("0c0f45 1c4fb8 2fd8ea f4fbff"))
    blue = smoothstep(-0.05, 0.12, blur(photo[..., 2] - photo[..., 0], 2 * scale))
    picture = mix(grade, cool, blue * 0.85)
    shift = max(1, round(1.2 * scale))
    picture[..., 0] = shifted(picture[..., 0], 0, shift)
    picture[..., 2] = shifted(picture[..., 2], 0, -shift)
    pitch = max(2, round(2.6 * scale))
    rows = (np.arange(shape[0]) + int(rng.integers(pitch))) % pitch == 0
    picture = picture * (1 - 0.16 * rows)[:, None, None].astype(np.float32)
    picture = picture + 0.35 * blur(np.clip(picture - 0.6, 0, 1), 3 * scale)
    return finish(picture + 0.015 * noise(shape, rng, 1.0)[..., None])
