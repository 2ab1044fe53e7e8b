"""Style statistics: the means and deviations of feature channels, wherever they occur."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.losses._common import (
    Features,
    Reduction,
    full_precision,
    paired_features,
    reduce_samples,
)


def channel_statistics(features: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel over its places.

    Args:
        features: (B, C, H, W).
        eps: Added to the variance, so that a flat channel has a gradient.

    Returns:
        Mean and deviation, both (B, C).
    """
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0)
    return mean, (variance + eps).sqrt()


@full_precision
def style_statistics_loss(
    features: Features,
    target_features: Features,
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
    eps: float = 1e-5,
) -> Tensor:
    r"""Squared difference of the channels' means and deviations, summed over the layers.

    .. math::

        L = \sum_l w_l \frac{1}{C_l} \Bigl(\lVert \mu(f_l) - \mu(t_l) \rVert^2
            + \lVert \sigma(f_l) - \sigma(t_l) \rVert^2\Bigr)

    The statistics of AdaIN (Huang & Belongie, ICCV 2017) in place of the Gram matrices of Gatys
    et al. (CVPR 2016). It does not see where in the picture a feature is, so features and targets
    may differ in height and width. Computed in float32, also under autocast.

    Args:
        features: Feature maps of the output, one (B, C, H, W) a layer; shallow layers work best.
        target_features: Those of the style picture, the same B and C a layer.
        weights: One a layer; None: all 1.
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Added to the variances.

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; 0 where the statistics agree.

    Raises:
        InputError: Layers, batch or channels differ, or there is not one weight a layer.
    """
    pairs = paired_features(features, target_features)
    if weights is not None and len(weights) != len(pairs):
        raise InputError(f"{len(weights)} weights for {len(pairs)} layers; give one a layer")
    loss = torch.zeros((), device=pairs[0][0].device, dtype=pairs[0][0].dtype)
    for weight, (feature, target) in zip(weights or [1.0] * len(pairs), pairs, strict=True):
        mean, deviation = channel_statistics(feature, eps)
        target_mean, target_deviation = channel_statistics(target, eps)
        difference = (mean - target_mean).square() + (deviation - target_deviation).square()
        loss = loss + weight * difference.mean(dim=1)
    return reduce_samples(loss, reduction)


class StyleStatisticsLoss(nn.Module):
    """:func:`style_statistics_loss` with its weights."""

    def __init__(
        self,
        weights: Sequence[float] | None = None,
        reduction: Reduction = "mean",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.weights = None if weights is None else tuple(weights)
        self.reduction: Reduction = reduction
        self.eps = eps

    def forward(self, features: Features, target_features: Features) -> Tensor:
        """See :func:`style_statistics_loss`."""
        return style_statistics_loss(
            features, target_features, self.weights, self.reduction, self.eps
        )
