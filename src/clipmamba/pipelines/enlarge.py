"""Enlarge a restyled picture to the size of its photo."""

from __future__ import annotations

from torch import Tensor

from clipmamba.io.convert import luma, resize, window_means

_RADIUS = 3  # of the windows, in pixels of the small picture
_EPSILON = 1e-3  # variance of luma in [0, 1] below which a window counts as uniform
_STEEPEST = 1.5  # photo's details are amplified at most so much


def enlarge(restyled: Tensor, small: Tensor, photo: Tensor) -> Tensor:
    """Enlarge a picture, with the photo's fine details where it follows the photo.

    Contours become as sharp as the photo's, but areas that the style has painted over stay free of
    the photo's texture. The gain of the details is the slope of the picture's luma over the
    photo's around each place, as in the guided filter (He, Sun and Tang, "Guided Image Filtering",
    ECCV 2010).

    Args:
        restyled: The picture, (B, 3, h, w); values may leave [0, 1].
        small: The photo at the picture's size, sRGB in [0, 1].
        photo: The photo, (B, 3, H, W).

    Returns:
        (B, 3, H, W); values may leave [0, 1]. Differentiable.
    """
    size = photo.shape[2], photo.shape[3]
    seen = luma(small)
    gain = _slope(seen, luma(restyled))
    details = (luma(photo) - resize(seen, *size)) * resize(gain, *size)
    return resize(restyled, *size) + details


def _slope(seen: Tensor, painted: Tensor) -> Tensor:
    """Fit the slope of `painted` over `seen` around each place, both (B, 1, h, w)."""
    level = window_means(seen, _RADIUS)
    together = window_means(seen * painted, _RADIUS) - level * window_means(painted, _RADIUS)
    spread = window_means(seen.square(), _RADIUS) - level.square()
    return (together / (spread.clamp(min=0) + _EPSILON)).clamp(-_STEEPEST, _STEEPEST)
