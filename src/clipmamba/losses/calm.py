"""Calm loss: no flecks where the photo is flat, for styles with flat areas of their own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.io.convert import luma
from clipmamba.losses._common import Reduction, full_precision, reduce_samples, require_images

WINDOW = 9  # side of the window for local contrast, in pixels
FLAT = 0.02  # largest standard deviation of luma in a flat area of a photo
CALM_PART = 0.25  # quantile of local contrast in a style picture that counts as calm


@full_precision
def calm_loss(
    output: Tensor, photo: Tensor, style_picture: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Penalize local contrast in flat areas of the photo, beyond that of the style's calm areas.

    .. math:: L = \frac{\sum_{p \in F} \max(0, \sigma_p(output) - \sigma_{calm} - 0.01)}
        {|F| + 0.02 H W}, \qquad F = \{p : \sigma_p(photo) < 0.02\}

    with σ the standard deviation of luma in 9×9 pixels, and σ_calm its first quartile over the
    style picture: a mosaic has no calm areas, half of a print is calm.

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
        flat = (_deviation(photo) < FLAT).float()
        calm = torch.quantile(_deviation(style_picture, WINDOW // 2).flatten(1), CALM_PART, dim=1)
    excess = (_deviation(output) - calm[:, None, None, None] - 0.5 * FLAT).clamp(min=0)
    places = flat[0].numel()
    loss = (excess * flat).sum((1, 2, 3)) / (flat.sum((1, 2, 3)) + 0.02 * places)
    return reduce_samples(loss, reduction)


def _deviation(images: Tensor, stride: int = 1) -> Tensor:
    """Compute the standard deviation of luma around every `stride`-th pixel, (B, 1, H', W')."""
    light = luma(images)

    def around(values: Tensor) -> Tensor:
        return avg_pool2d(values, WINDOW, stride, WINDOW // 2, count_include_pad=False)

    mean = around(light)
    return ((around(light.square()) - mean.square()).clamp(min=0) + 1e-6).sqrt()
