"""Calm loss: no flecks where the photo is flat, for styles with flat areas of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.io.convert import window_means
from clipmamba.losses._common import Reduction, full_precision, reduce_samples, require_images

WINDOW = 9  # side of the window for local contrast, in pixels
FLAT = 0.02  # largest local contrast in a flat area of a photo
CALM_PART = 0.1  # quantile of local contrast in a style picture that counts as calm
FREE = 0.005  # local contrast that may be added


@full_precision
def calm_loss(
    output: Tensor, photo: Tensor, style_picture: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Penalize local contrast in flat areas of the photo, beyond that of the style's calm areas.

    .. math:: L = \frac{\sum_{p \in F}
        \max(0, \sigma_p(output) - \max(\sigma_{calm}, \sigma_p(photo)) - 0.005)}
        {|F| + 0.02 H W}, \qquad F = \{p : \sigma_p(photo) < 0.02\}

    with σ the standard deviation of the colors in 9×9 pixels (root of the mean variance of the
    channels), and σ_calm its first decile over the style picture: a mosaic has no calm areas, a
    print has some, and the photo's flat areas should look like them.

    Args:
        output: (B, 3, H, W) in [0, 1].
        photo: The same shape.
        style_picture: (B, 3, H', W') in [0, 1].
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; 0 for a photo without flat areas.
    """
    require_images(output)
    with torch.no_grad():
        own = _deviation(photo)
        flat = (own < FLAT).float()
        allowed = torch.maximum(own, calm_contrast(style_picture)[:, None, None, None]) + FREE
    excess = (_deviation(output) - allowed).clamp(min=0)
    places = flat[0].numel()
    loss = (excess * flat).sum((1, 2, 3)) / (flat.sum((1, 2, 3)) + 0.02 * places)
    return reduce_samples(loss, reduction)


def calm_contrast(pictures: Tensor) -> Tensor:
    """Compute the local contrast in the calm parts of pictures, σ_calm of `calm_loss`.

    Args:
        pictures: (B, 3, H, W) in [0, 1].

    Returns:
        (B,), from 0.001 to 0.5: some 0.01 for prints, 0.06 for a van Gogh, 0.1 for mosaics.
    """
    return torch.quantile(_deviation(pictures, WINDOW // 2).flatten(1), CALM_PART, dim=1)


def _deviation(images: Tensor, stride: int = 1) -> Tensor:
    """Compute the standard deviation of colors around every `stride`-th pixel, (B, 1, H', W')."""
    squares = window_means(images.square().mean(1, keepdim=True), WINDOW // 2, stride)
    means = window_means(images, WINDOW // 2, stride)
    variance = squares - means.square().mean(1, keepdim=True)
    return (variance.clamp(min=0) + 1e-6).sqrt()
