"""Lines along the edges of a picture."""

# numpy's stubs give Any for arithmetic on arrays of any float width.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
from scipy import ndimage

from clipmamba.train.painters.brushes.flow import Flow
from clipmamba.train.painters.brushes.smoothing import blur, kuwahara
from clipmamba.train.painters.brushes.tone import Array, luma, smoothstep, stretch


def outlines(
    gray: Array, sigma: float, low: float = 0.006, high: float = 0.03, flow: Flow | None = None
) -> Array:
    """Ink along edges (H, W) in [0, 1]: difference of Gaussians on the darker side, made soft.

    Args:
        gray: luminance in [0, 1].
        sigma: half the line width in pixels.
        low: difference where ink begins.
        high: difference where ink is full.
        flow: streamlines along edges; with them broken lines join (flow-based DoG).
    """
    difference: Array = blur(gray, 1.6 * sigma) - blur(gray, sigma)
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
    gray = stretch(luma(kuwahara(photo, max(1.0, 0.9 * scale))))
    fine = outlines(gray, 0.55 * width * scale, 0.016, 0.050, flow)
    broad = outlines(gray, 0.95 * width * scale, 0.030, 0.075, flow)
    return np.maximum(fine, broad)


def contours(gray: Array, sigma: float, flow: Flow, low: float = 0.25, high: float = 0.7) -> Array:
    """One line on each edge (H, W) in [0, 1]: ridges of the gradient, even in strength.

    Args:
        gray: luminance in [0, 1].
        sigma: half the line width in pixels.
        flow: streamlines along edges, to join broken lines.
        low: relative ridge height where the line begins.
        high: relative ridge height where the line is full.
    """
    smooth = blur(gray, sigma)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    slope = flow.smooth(np.sqrt(gx * gx + gy * gy))
    around = blur(slope, 2.2 * sigma)
    # Strong edges fade to the same line as weak ones; below the floor there is none.
    ridge = (slope - around) / (0.45 * around + 0.08)
    return smoothstep(low, high, ridge) * smoothstep(0.08, 0.30, slope)


def edge_strength(photo: Array, sigma: float) -> Array:
    """Gradient magnitude (H, W) over all channels of the blurred picture."""
    smooth = blur(photo, sigma)
    gx = ndimage.sobel(smooth, axis=1, mode="nearest")
    gy = ndimage.sobel(smooth, axis=0, mode="nearest")
    return np.sqrt((gx * gx + gy * gy).max(axis=2)) / 4.0
