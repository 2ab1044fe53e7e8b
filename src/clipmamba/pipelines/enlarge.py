"""Enlarge a restyled picture to the size of its photo."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.io.convert import in_strips, luma, resize, window_means

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

    def with_details(restyled: Tensor, seen: Tensor, gain: Tensor, photo: Tensor) -> Tensor:
        return torch.addcmul(restyled, luma(photo) - seen, gain)

    large = (resize(each, *size) for each in (restyled, seen, gain))
    return in_strips(with_details, *large, photo)


def _slope(seen: Tensor, painted: Tensor) -> Tensor:
    """Fit the slope of `painted` over `seen` around each place, both (B, 1, h, w)."""
    values = torch.cat([seen, painted, seen * painted, seen.square()], 1)
    means = torch.split(window_means(values, _RADIUS), 1, dim=1)
    level, other, product, square = means
    spread = (square - level.square()).clamp(min=0)
    slope = (product - level * other) / (spread + _EPSILON)
    return slope.clamp(-_STEEPEST, _STEEPEST)
