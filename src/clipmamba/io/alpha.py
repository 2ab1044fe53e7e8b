"""Colors below full transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]


def fill_hidden(pixels: NDArray[np.float32], opacity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill fully transparent pixels with the visible colors around them.

    The stored colors of such pixels are arbitrary, often black, and a network with a receptive
    field would bleed them into the visible edge. The fill comes from a pyramid of means weighted
    by opacity (push-pull; Gortler et al., "The Lumigraph", SIGGRAPH 1996).

    Args:
        pixels: (H, W, 3).
        opacity: (H, W) in [0, 1].

    Returns:
        (H, W, 3); equal to `pixels` where `opacity` is above 0, or everywhere if it never is.
    """
    import numpy as np

    hidden = opacity <= 0
    if not hidden.any() or hidden.all():
        return pixels
    means = _means(pixels * opacity[..., None], opacity)
    return np.where(hidden[..., None], means, pixels).astype(np.float32)


def _means(sums: Floats, weights: Floats) -> Floats:
    """Compute weighted means (H, W, 3), from the next coarser level where the weight is 0."""
    import numpy as np

    known = weights > 0
    means: Floats = sums / np.where(known, weights, 1)[..., None]
    if known.all():
        return means
    height, width = weights.shape
    edges = ((0, height % 2), (0, width % 2))
    half = (-(-height // 2), 2, -(-width // 2), 2)
    coarse = _means(
        np.pad(sums, (*edges, (0, 0))).reshape(*half, 3).sum(axis=(1, 3)),
        np.pad(weights, edges).reshape(half).sum(axis=(1, 3)),
    )
    spread = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(known[..., None], means, spread)
