"""Painters that draw: pencil, charcoal, chalk, ink, plans."""

from __future__ import annotations

import numpy as np

from clipmamba.train.painters.brushes.flow import Flow, edge_flow, hatching, tangent
from clipmamba.train.painters.brushes.lines import contours, outlines
from clipmamba.train.painters.brushes.noise import noise, paper
from clipmamba.train.painters.brushes.smoothing import blur, simplify
from clipmamba.train.painters.brushes.tone import (
    Array,
    finish,
    grid_step,
    luma,
    mix,
    rgb,
    saturate,
    scale_of,
    smoothstep,
    stretch,
    vibrance,
    with_luma,
)


def pencil_sketch(photo: Array, rng: np.random.Generator) -> Array:
    """Graphite on paper: lines that swell and fade, rubbed tone, hatched shadows, white lights."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(photo))
    gray = np.clip(gray + 0.5 * (gray - blur(gray, 8 * scale)), 0, 1)
    soft = blur(gray, 1.5 * scale)
    angle = rng.uniform(0.6, 1.0) + np.pi / 2
    tooth = paper(shape, rng, scale)
    rubbed = 0.15 * smoothstep(0.15, 1.1, 1 - blur(gray, 0.8 * scale))
    graphite = rubbed * (1 + 0.15 * tooth)
    # Only shadows are hatched, the deepest twice.
    for start, turn, weight in ((0.6, 0.0, 0.3), (0.8, 0.35, 0.4)):
        strokes = hatching(shape, rng, angle + turn, 0.8 * scale, round(13 * scale))
        darkness = smoothstep(start, start + 0.35, 1 - soft)
        mark = smoothstep(-0.4, 1.2, strokes + 0.3 * tooth + 1.6 * darkness - 1.0)
        graphite += weight * darkness * mark
    flow = edge_flow(gray, scale, length=6)
    fine = outlines(gray, 0.45 * scale, 0.008, 0.04, flow)
    loose = outlines(gray, 1.0 * scale, 0.02, 0.09, flow)
    pressure = 0.6 + 0.5 * smoothstep(-1.8, 0.8, noise(shape, rng, 10 * scale))
    graphite = graphite + pressure * (fine + 0.6 * loose)
    graphite = graphite * (1 - 0.25 * np.clip(tooth, -1.5, 1.5))
    # Graphite never gets black, and the sheet is a little warm in tone but gray here.
    return finish(0.975 - 0.008 * tooth - 0.85 * (1 - np.exp(-1.4 * np.maximum(graphite, 0))))


def coloured_pencil(photo: Array, rng: np.random.Generator) -> Array:
    """Layered hatching in bright crayons with the paper shining through."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    bright = vibrance(saturate(with_luma(photo, 0.12 + 0.88 * stretch(luma(photo))), 1.5), 0.3)
    flat = simplify(bright, scale, passes=1)
    tooth = paper(shape, rng, scale)
    base = rng.uniform(0.6, 1.0) + np.pi / 2
    picture = np.full_like(photo, 0.975)
    pigment = np.clip(saturate(flat, 1.25), 0.04, 1)
    for turn, weight in ((0.0, 0.62), (0.5, 0.42), (1.3, 0.30)):
        strokes = hatching(shape, rng, base + turn, 1.15 * scale, round(14 * scale))
        cover = smoothstep(-1.2, 1.2, strokes + 0.3 * tooth + 1.6 * (0.6 - luma(flat)))
        tint = pigment * (1 + rng.normal(0, 0.05, 3).astype(np.float32))
        picture = picture * (1 - (weight * cover)[..., None] * (1 - np.clip(tint, 0, 1)))
    line = outlines(stretch(luma(photo)), 0.8 * scale, 0.008, 0.06, edge_flow(luma(photo), scale))
    picture = mix(picture, pigment * 0.35, 0.75 * line)
    return finish(picture * (1 - 0.02 * tooth)[..., None])


def charcoal(photo: Array, rng: np.random.Generator) -> Array:
    """Dark smudged charcoal on rough paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(photo), 2, 98)
    gray = np.clip(gray + 0.5 * (gray - blur(gray, 7 * scale)), 0, 1)
    angle, _ = tangent(gray, 3 * scale)
    flow = Flow(angle, max(2, round(4 * scale)))
    smudge = 0.6 * flow.smooth(blur(gray, 0.9 * scale)) + 0.4 * blur(gray, 2.2 * scale)
    dark = smoothstep(0.10, 1.0, 1 - smudge)
    tooth = noise(shape, rng, 1.1 * scale) + 0.6 * noise(shape, rng, 2.4 * scale)
    side = hatching(shape, rng, float(rng.uniform(2.0, 2.6)), 2.0 * scale, 14 * scale)
    # The stick catches the tooth: darks fill it, halftones break into grain and strokes.
    caught = smoothstep(-1.7, 1.7, 0.8 * tooth + 0.55 * side + 3.4 * (dark - 0.5))
    coal = 0.52 * dark + 0.50 * caught * smoothstep(0.03, 0.35, dark)
    line = outlines(gray, 1.4 * scale, 0.012, 0.07, flow)
    line = line * smoothstep(-1.8, 0.6, tooth + 1.0)
    coal = np.maximum(coal, 0.9 * line)
    sheet = 0.87 + 0.022 * tooth
    value = sheet - 0.80 * np.clip(coal, 0, 1)
    return finish(value[..., None] * np.asarray([1.0, 0.985, 0.955], np.float32))


def ink_wash(photo: Array, rng: np.random.Generator) -> Array:
    """Sumi-e: a few gray washes with wet edges, dark brush lines, much empty rice paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(simplify(photo, scale, passes=2)), 2, 98)
    angle, _ = tangent(gray, 2.5 * scale)
    flow = Flow(angle, max(2, round(4 * scale)))
    tone = gray + 0.04 * noise(shape, rng, 9 * scale)
    wash = np.zeros(shape, np.float32)
    for cut, depth in ((0.62, 0.13), (0.42, 0.22), (0.22, 0.34)):
        area = smoothstep(cut + 0.05, cut - 0.05, tone)
        wash += depth * area + 0.20 * np.clip(area - blur(area, 1.8 * scale), 0, 1)
    # Ink pools and thins within a wash.
    wash = wash * (1 + 0.20 * noise(shape, rng, 13 * scale) + 0.05 * noise(shape, rng, 1.5 * scale))
    line = outlines(gray, 1.1 * scale, 0.010, 0.030, flow)
    swell = smoothstep(-1.6, 0.6, noise(shape, rng, 9 * scale))
    dry = flow.smooth(noise(shape, rng, 0.9 * scale))
    dry = dry / max(float(dry.std()), 1e-6)
    line = line * (0.35 + 0.65 * swell) * (1 - 0.5 * smoothstep(0.5, 1.6, dry))
    ink = 1 - (1 - np.clip(wash, 0, 0.92)) * (1 - 0.96 * line)
    fibre = noise(shape, rng, 1.2 * scale) * 0.012 + noise(shape, rng, 5 * scale) * 0.010
    sheet = np.asarray(rgb("f5f0e2"), np.float32) * (1 + fibre)[..., None]
    return finish(mix(sheet, rgb("14151b"), ink))


def blueprint(photo: Array, rng: np.random.Generator) -> Array:
    """White technical lines on blue paper with a faint grid."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(simplify(photo, scale, passes=1)))
    flow = edge_flow(gray, scale, length=5)
    line = contours(gray, 0.8 * scale, flow)
    hatch = hatching(shape, rng, np.pi / 4, 1.0 * scale, round(20 * scale))
    shade = smoothstep(0.45, 0.9, 1 - blur(gray, 1.5 * scale)) * smoothstep(0.2, 1.2, hatch)
    white = np.clip(0.95 * line + 0.16 * shade, 0, 1)
    pitch = max(5, grid_step(scale, 8))
    y, x = np.indices(shape)
    grid = 0.07 * ((y % pitch == 0) | (x % pitch == 0))
    grid = grid + 0.09 * ((y % (4 * pitch) == 0) | (x % (4 * pitch) == 0))
    blue = np.asarray(rgb(str(rng.choice(["14408f", "123a86", "1b4ea3", "0f3f7d"]))), np.float32)
    tooth = paper(shape, rng, scale)
    sheet = blue * (0.92 + 0.14 * blur(gray, 3 * scale) + 0.03 * tooth)[..., None]
    return finish(mix(sheet, rgb("eaf3ff"), np.clip(white + grid, 0, 1) * (1 - 0.05 * tooth)))


def chalkboard(photo: Array, rng: np.random.Generator) -> Array:
    """White and pale colored chalk on a dark slate."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    gray = stretch(luma(photo), 2, 98)
    flow = edge_flow(gray, scale, length=5)
    line = contours(gray, 1.0 * scale, flow, 0.15, 0.6)
    tooth = noise(shape, rng, 1.1 * scale)
    side = hatching(shape, rng, float(rng.uniform(0.5, 1.0)), 1.6 * scale, round(16 * scale))
    tone = smoothstep(0.35, 1.0, blur(gray, 1.2 * scale))
    fill = tone * smoothstep(-1.4, 1.8, 0.7 * side + 0.7 * tooth + 1.2 * tone - 0.3)
    chalk = np.clip(0.95 * line * smoothstep(-2.0, 0.2, tooth + line) + 0.6 * fill, 0, 1)
    tint = with_luma(
        vibrance(saturate(blur(photo, scale), 1.5), 0.3), np.full(shape, 0.86, np.float32)
    )
    tint = mix(np.full_like(photo, 0.95), np.clip(tint, 0, 1), 0.55)
    board = np.asarray(rgb("24332d" if rng.random() < 0.5 else "26282b"), np.float32)
    dust = 1 + 0.10 * noise(shape, rng, 16 * scale) + 0.04 * tooth
    return finish(mix(board * dust[..., None], tint, chalk))


def pastel(photo: Array, rng: np.random.Generator) -> Array:
    """Soft chalk pastel: light powdery strokes on toned, toothy paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    light = with_luma(photo, 0.26 + 0.70 * stretch(luma(photo)))
    soft = vibrance(saturate(simplify(light, scale, passes=1), 1.3), 0.25)
    base = float(rng.uniform(2.0, 2.6))
    tooth = noise(shape, rng, 1.1 * scale) + 0.5 * noise(shape, rng, 2.2 * scale)
    powder = blur(soft, 0.5 * scale)
    # Two passes of broad strokes in neighboring hues, light over dark.
    for turn in (0.0, 0.7):
        marks = [hatching(shape, rng, base + turn, 2.2 * scale, 13 * scale) for _ in range(3)]
        light_marks = np.mean(marks, axis=0)
        powder = powder + 0.016 * np.stack(marks, axis=2) + (0.045 * light_marks)[..., None]
    side = hatching(shape, rng, base, 2.0 * scale, 12 * scale)
    cover = smoothstep(-2.1, 0.2, 0.6 * side + 0.8 * tooth + 0.5)
    ground = rgb(str(rng.choice(["c2ab8c", "b39f98", "9aa6a8", "cdb893"])))
    line = outlines(luma(soft), 1.1 * scale, 0.012, 0.05, edge_flow(luma(soft), scale))
    powder = mix(np.clip(powder, 0, 1), np.clip(powder * 0.35, 0, 1), 0.6 * line)
    sheet = np.ones_like(photo) * np.asarray(ground, np.float32)
    return finish(mix(sheet, powder, 0.55 + 0.43 * cover))
