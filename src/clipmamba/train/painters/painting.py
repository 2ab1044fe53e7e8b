"""Painters with a brush: water, oil, light and swirl."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipmamba.train.painters.brushes.cells import jittered_grid, sample
from clipmamba.train.painters.brushes.flow import Flow, blend_angles, edge_flow, hatching, tangent
from clipmamba.train.painters.brushes.lines import edge_strength, outlines
from clipmamba.train.painters.brushes.noise import noise, vignette
from clipmamba.train.painters.brushes.palette import to_palette
from clipmamba.train.painters.brushes.smoothing import blur, posterise, simplify
from clipmamba.train.painters.brushes.strokes import bristles, lay_strokes, relief
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


def watercolour(photo: Array, rng: np.random.Generator) -> Array:
    """Pale transparent washes with dark pigment rims on cold-pressed paper."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    light = with_luma(photo, 0.22 + 0.78 * stretch(luma(photo), 1, 96) ** 0.85)
    flat = simplify(vibrance(saturate(light, 1.35), 0.25), scale, passes=3)
    # Wet paper: washes bleed a little past their edges, irregularly.
    wander = np.stack([noise(shape, rng, 7 * scale), noise(shape, rng, 7 * scale)])
    y, x = np.indices(shape, dtype=np.float32)
    flat = sample(
        flat, (y + 0.9 * scale * wander[0]).ravel(), (x + 0.9 * scale * wander[1]).ravel()
    )
    flat = blur(flat.reshape(photo.shape), 0.6 * scale)
    tone = luma(flat)
    washes = posterise(np.clip(tone + 0.02 * noise(shape, rng, 10 * scale), 0, 1), 6, 0.55)
    flat = with_luma(flat, 0.45 * tone + 0.55 * washes)
    rim = np.clip(blur(luma(flat), 1.9 * scale) - luma(flat), 0, 1)
    rim = np.clip(7.0 * rim, 0, 0.42)
    tooth = noise(shape, rng, 1.5 * scale) + 0.5 * noise(shape, rng, 3 * scale)
    density = 1 + 0.13 * noise(shape, rng, 18 * scale) + 0.07 * tooth * smoothstep(0.95, 0.5, tone)
    # Beer's law: density scales the absorbed light, so pale stays pale.
    absorbed = -np.log(np.clip(flat, 0.03, 0.995)) * (0.80 * density + 1.5 * rim)[..., None]
    white = smoothstep(0.90, 0.99, tone + 0.03 * noise(shape, rng, 4 * scale))
    picture = np.exp(-absorbed * (1 - 0.8 * white)[..., None])
    sheet = np.asarray(rgb("fcf9f1"), np.float32) * (1 + relief(tooth, 0.018) * 1.2)[..., None]
    return finish(picture * sheet)


_OPPONENTS = np.array([[0.9, 0.9, 0.9], [0.8, -0.6, 0.2], [0.5, 0.4, -1.0]], dtype=np.float32)
_STARRY = np.array([[0.9, 0.9, 0.9], [0.9, 0.75, -0.9], [-0.5, 0.0, 0.5]], dtype=np.float32)


@dataclass(frozen=True)
class Coat:
    """How one coat of bristle strokes is laid; lengths in pixels.

    Attributes:
        step: grid pitch of strokes.
        length: mean length of a stroke.
        width: width of a stroke.
        wobble: standard deviation of the direction in radians.
        color_noise: standard deviation of a stroke's color.
        keep: chance (H, W) that a stroke is laid; all by default.
        hairs: bristles across a stroke.
        impasto: depth of bristle marks and edges in the light.
        squareness: 2 gives pointed strokes, more gives flat brushes.
        jitter_axes: color directions (K, 3) of that deviation; light, red-green and blue-yellow
            by default.
    """

    step: float
    length: float
    width: float
    wobble: float
    color_noise: float
    keep: Array | None = None
    hairs: int = 5
    impasto: float = 0.10
    squareness: int = 3
    jitter_axes: Array | None = None


def _brushwork(
    picture: Array, target: Array, rng: np.random.Generator, angle: Array, coat: Coat
) -> Array:
    """Lay one coat of strokes of `target` colors over a picture.

    Args:
        picture: canvas (H, W, 3).
        target: colors to paint (H, W, 3).
        rng: randomness.
        angle: stroke directions (H, W).
        coat: how they are laid.
    """
    shape = target.shape[:2]
    y, x = jittered_grid(shape, rng, coat.step, 0.5)
    order = rng.permutation(len(y))
    if coat.keep is not None:
        order = order[rng.random(len(order)) < sample(coat.keep, y[order], x[order])]
    y, x = y[order], x[order]
    turn = sample(angle, y, x) + rng.normal(0, coat.wobble, len(y)).astype(np.float32)
    lengths = coat.length * rng.uniform(0.7, 1.3, len(y)).astype(np.float32)
    layer = lay_strokes(shape, y, x, turn, lengths, coat.width, coat.squareness)
    colors = sample(target, y, x)
    axes = _OPPONENTS if coat.jitter_axes is None else coat.jitter_axes
    shifts = rng.standard_normal((len(y), len(axes)), dtype=np.float32) @ axes
    colors = colors + np.float32(coat.color_noise) * shifts
    hair = bristles(layer, rng, coat.hairs)
    height = (0.9 - 0.5 * layer.v**2 + 0.35 * hair) * layer.alpha
    light = relief(blur(height, 0.45), coat.impasto * 1.6)
    paint = colors[layer.owner] * (1 + 0.5 * coat.impasto * hair)[..., None] + light[..., None]
    return mix(picture, paint.astype(np.float32), layer.alpha)


def oil_painting(photo: Array, rng: np.random.Generator) -> Array:
    """Rich oil with visible brush strokes along the forms, large first, fine on edges."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    rich = vibrance(saturate(with_luma(photo, stretch(luma(photo)) * 0.94), 1.3), 0.22)
    flat = simplify(rich, scale, passes=2)
    angle, coherence = tangent(luma(flat), 3.5 * scale)
    wander = rng.uniform(0, 3.1) + 0.5 * noise(shape, rng, 40 * scale)
    angle = blend_angles(wander.astype(np.float32), angle, np.clip(1.5 * coherence, 0, 1))
    canvas = blur(flat, 3 * scale) * 0.85
    size = rng.uniform(0.9, 1.15) * scale
    canvas = _brushwork(
        canvas,
        flat,
        rng,
        angle,
        Coat(
            step=5.0 * size,
            length=19 * size,
            width=6.5 * size,
            wobble=0.22,
            color_noise=0.03,
            hairs=7,
            impasto=0.11,
        ),
    )
    edge = blur(edge_strength(flat, 1.0 * scale), 1.2 * scale)
    fine = np.clip(0.15 + 1.3 * smoothstep(0.01, 0.07, edge), 0, 1)
    return finish(
        _brushwork(
            canvas,
            flat,
            rng,
            angle,
            Coat(
                step=2.7 * size,
                length=10 * size,
                width=3.0 * size,
                wobble=0.12,
                color_noise=0.025,
                keep=fine,
                hairs=4,
                impasto=0.10,
            ),
        )
    )


def impressionism(photo: Array, rng: np.random.Generator) -> Array:
    """Short dabs of broken bright color, violet shade and warm light."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo))
    bright = vibrance(saturate(with_luma(photo, 0.16 + 0.82 * tone), 1.55), 0.32)
    shade = smoothstep(0.45, 0.1, tone)[..., None]
    warm = smoothstep(0.5, 0.95, tone)[..., None]
    bright = bright + shade * np.asarray([0.02, -0.01, 0.13], np.float32)
    bright = np.clip(bright + warm * np.asarray([0.05, 0.03, -0.05], np.float32), 0, 1)
    flat = simplify(bright, scale, passes=1)
    angle, coherence = tangent(luma(flat), 3.0 * scale)
    base = np.full(shape, rng.uniform(-0.4, 0.4), np.float32) + 0.4 * noise(shape, rng, 30 * scale)
    angle = blend_angles(base.astype(np.float32), angle, np.clip(1.3 * coherence, 0, 1))
    size = rng.uniform(0.9, 1.15) * scale
    canvas = np.clip(blur(flat, 2 * scale) + np.asarray([0.05, 0.02, 0.04], np.float32), 0, 1)
    for step, length, width, jitter in ((3.4, 9.5, 3.9, 0.075), (2.9, 6.5, 2.5, 0.085)):
        canvas = _brushwork(
            canvas,
            flat,
            rng,
            angle,
            Coat(
                step=step * size,
                length=length * size,
                width=width * size,
                wobble=0.35,
                color_noise=jitter,
                hairs=4,
                impasto=0.08,
            ),
        )
    return finish(canvas)


def pointillism(photo: Array, rng: np.random.Generator) -> Array:
    """Dots of pure divided color on a pale ground, after Seurat."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    bright = vibrance(saturate(with_luma(photo, 0.12 + 0.86 * stretch(luma(photo))), 1.6), 0.3)
    soft = simplify(bright, scale, passes=1)
    canvas = mix(np.ones_like(photo) * np.asarray(rgb("f1e8d6"), np.float32), soft, 0.6)
    size = max(0.62, rng.uniform(0.9, 1.1) * scale)
    # Division of color: each dot leans to one pure hue, the eye mixes them back.
    hues = rgbs("ff2a1a ff9a00 ffe600 19b84a 00a6d6 2a3bff a020c0 ff5fa8")
    hues = hues - luma(hues[None])[0][:, None]
    for step, diameter in ((3.1, 3.7), (3.3, 2.7)):
        y, x = jittered_grid(shape, rng, step * size, 0.38, brick=True)
        order = rng.permutation(len(y))
        y, x = y[order], x[order]
        colors = sample(soft, y, x)
        push = rng.uniform(0.12, 0.42, (len(y), 1)).astype(np.float32)
        push = push * (0.45 + 0.55 * luma(colors[None])[0])[:, None]
        colors = colors + push * hues[rng.integers(0, len(hues), len(y))]
        colors = np.clip(colors + rng.normal(0, 0.05, (len(y), 1)), 0, 1).astype(np.float32)
        diameters = diameter * size * rng.uniform(0.85, 1.12, len(y))
        layer = lay_strokes(shape, y, x, 0.0, diameters, diameters, squareness=2)
        canvas = mix(canvas, colors[layer.owner] * (1.03 - 0.10 * layer.v)[..., None], layer.alpha)
    return finish(canvas)


def van_gogh(photo: Array, rng: np.random.Generator) -> Array:
    """Thick swirling strokes along a flow, blues against yellows."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo), 2, 98)
    vivid = vibrance(saturate(with_luma(photo, 0.08 + 0.9 * tone), 1.7), 0.4)
    night = ramp(tone, [0, 0.3, 0.6, 0.85, 1], rgbs("0e1a48 1f4fa8 5fa0c8 f4cf4a fdf0a8"))
    vivid = mix(vivid, night, rng.uniform(0.5, 0.62))
    flat = simplify(vivid, scale, passes=1)
    angle, coherence = tangent(luma(flat), 4.5 * scale)
    # Whirls: the gradient of a slow noise turned by a right angle winds around its hills.
    gy, gx = np.gradient(noise(shape, rng, 34 * scale))
    swirl = np.arctan2(gx, -gy).astype(np.float32)
    angle = blend_angles(swirl, angle, smoothstep(0.25, 0.8, coherence))
    flow = Flow(angle, round(9 * scale))
    size = rng.uniform(0.92, 1.12) * scale
    canvas = flow.smooth(flat) * 0.75
    canvas = _brushwork(
        canvas,
        flat,
        rng,
        angle,
        Coat(
            step=3.2 * size,
            length=13 * size,
            width=3.1 * size,
            wobble=0.06,
            color_noise=0.085,
            hairs=4,
            impasto=0.12,
            squareness=2,
            jitter_axes=_STARRY,
        ),
    )
    strands = flow.smooth(noise(shape, rng, 1.5 * scale))
    strands = strands / max(float(strands.std()), 1e-6)
    canvas = canvas * (1 + 0.10 * strands)[..., None] + relief(strands, 0.05)[..., None]
    line = outlines(luma(flat), 1.4 * scale, 0.02, 0.08, flow)
    return finish(mix(canvas, rgb("131a33"), 0.6 * line))


def expressionism(photo: Array, rng: np.random.Generator) -> Array:
    """Raw broad strokes, unnatural clashing color and dark contour, after Munch and Kirchner."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale, passes=3)
    tone = stretch(luma(flat), 3, 97)
    sets = (
        "0f1030 7a1440 d9391f f2a31b f7e27a",
        "0d2430 0f6b5c d1491f f0b429 f6ecb0",
        "1a0f2e 3d2a8c c2185b f57c1f ffe066",
    )
    heat = ramp(tone, [0, 0.27, 0.52, 0.78, 1], rgbs(sets[int(rng.integers(len(sets)))]))
    wild = mix(saturate(vibrance(with_luma(flat, tone), 0.4), 2.0), heat, 0.58)
    angle, coherence = tangent(tone, 6 * scale)
    gy, gx = np.gradient(noise(shape, rng, 45 * scale))
    wave = np.arctan2(gx, -gy).astype(np.float32)
    angle = blend_angles(wave, angle, smoothstep(0.15, 0.6, coherence))
    size = rng.uniform(0.95, 1.2) * scale
    canvas = _brushwork(
        wild * 0.8,
        wild,
        rng,
        angle,
        Coat(
            step=3.8 * size,
            length=17 * size,
            width=4.2 * size,
            wobble=0.10,
            color_noise=0.05,
            hairs=7,
            impasto=0.12,
            squareness=3,
        ),
    )
    line = outlines(blur(tone, 0.8 * scale), 1.9 * scale, 0.02, 0.06, Flow(angle, round(6 * scale)))
    return finish(mix(canvas, rgb("0f0d18"), 0.85 * line))


def fauvism(photo: Array, rng: np.random.Generator) -> Array:
    """Pure pigments in flat loose dabs with bare canvas between, after Matisse and Derain."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    tone = stretch(luma(photo), 2, 98)
    vivid = vibrance(saturate(with_luma(photo, 0.18 + 0.8 * tone), 2.6), 0.7)
    pigments = rgbs(
        "e8302a f46a1e f9c31c f4e04d 2f9e4f 7cc242 1c8fb8 2b4fb0 6a3aa0 e8619b 1d2a5c f8ead0 f2a68c"
    )
    flat = simplify(vivid, scale, passes=2, radius=2)
    flat = mix(flat, to_palette(flat, pigments, 0.006, tone=0.9), 0.8)
    angle, coherence = tangent(luma(flat), 5 * scale)
    angle = blend_angles(np.full(shape, rng.uniform(0, 3.1), np.float32), angle, coherence)
    size = rng.uniform(0.95, 1.15) * scale
    canvas = mix(np.ones_like(photo) * np.asarray(rgb("f3e9d4"), np.float32), flat, 0.5)
    for step, length, width in ((4.6, 11, 6.0), (3.9, 9, 4.2)):
        canvas = _brushwork(
            canvas,
            flat,
            rng,
            angle,
            Coat(
                step=step * size,
                length=length * size,
                width=width * size,
                wobble=0.25,
                color_noise=0.04,
                hairs=5,
                impasto=0.035,
                squareness=4,
            ),
        )
    line = outlines(tone, 1.5 * scale, 0.025, 0.07, edge_flow(tone, scale, 6))
    return finish(mix(canvas, rgb("1d2a6c"), 0.8 * line))


def baroque(photo: Array, rng: np.random.Generator) -> Array:
    """Chiaroscuro: warm light on the subject, everything else sinks into brown dark."""
    shape = photo.shape[:2]
    scale = scale_of(photo)
    flat = simplify(photo, scale, passes=1)
    gray = luma(flat)
    tone = stretch(gray, 2, 98)
    # The lamp stands on what is bright and detailed near the middle.
    weight = (0.15 + tone) * (0.02 + blur(edge_strength(flat, 1.0), 4 * scale))
    weight = weight * (1.05 - vignette(shape, 0.1))
    y, x = np.indices(shape, dtype=np.float32)
    total = float(weight.sum())
    cy = float((weight * y).sum()) / total - rng.uniform(0.0, 0.08) * shape[0]
    cx = float((weight * x).sum()) / total + rng.uniform(-0.08, 0.08) * shape[1]
    distance = np.hypot((y - cy) / shape[0], (x - cx) / shape[1] * 1.1)
    lamp = np.exp(-((distance / rng.uniform(0.36, 0.46)) ** 2))
    lit = np.clip(tone ** (1.5 - 0.75 * lamp) * (0.24 + 1.0 * lamp), 0, 1)
    glaze = ramp(
        lit, [0, 0.12, 0.3, 0.55, 0.8, 1], rgbs("0a0705 1f130a 52301a a8703a e3b673 fbe9c2")
    )
    chroma = (flat - gray[..., None]) * (1.3 * np.clip(lit * 1.6, 0.05, 1))[..., None]
    chroma = chroma * np.asarray([1.1, 1.0, 0.75], np.float32)
    picture = glaze + 0.8 * chroma
    angle, _ = tangent(tone, 4 * scale)
    strokes = Flow(angle, round(6 * scale)).smooth(noise(shape, rng, 1.5 * scale))
    strokes = strokes / max(float(strokes.std()), 1e-6)
    weave = hatching(shape, rng, 0.0, 1.2 * scale, round(8 * scale))
    surface = 1 + 0.05 * strokes + 0.025 * weave
    return finish(picture * surface[..., None])
