"""Style statistics: the means and standard deviations of feature channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
    """Compute the mean and standard deviation of every channel over its positions.

    Args:
        features: (B, C, H, W).
        eps: Added to the variance, so that a constant channel has a gradient.

    Returns:
        Mean and standard deviation, both (B, C).

    Examples:
        >>> mean, deviation = channel_statistics(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]]))
        >>> mean, deviation.round(decimals=2)
        (tensor([[2., 5.]]), tensor([[1., 0.]]))
    """
    # two passes: `torch.var_mean` is up to 20 times slower on a CPU
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().mean((2, 3))
    return mean.flatten(1), (variance + eps).sqrt()


@full_precision
def style_statistics_loss(
    features: Features,
    target_features: Features,
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
    eps: float = 1e-5,
) -> Tensor:
    r"""Compute squared differences of channel means and standard deviations, summed over layers.

    .. math::

        L = \sum_l w_l \frac{1}{C_l} \Bigl(\lVert \mu(f_l) - \mu(t_l) \rVert^2
            + \lVert \sigma(f_l) - \sigma(t_l) \rVert^2\Bigr)

    The statistics of AdaIN (Huang & Belongie, ICCV 2017) in place of the Gram matrices of Gatys
    et al. (CVPR 2016). They have no location, so features and targets may differ in height and
    width. Computed in float32, also under autocast.

    Args:
        features: Feature maps of the output, one (B, C, H, W) per layer; shallow layers work best.
        target_features: Those of the style picture, with the same B and C per layer.
        weights: One per layer; None: all 1.
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Added to the variances.

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; 0 if the statistics agree.

    Raises:
        InputError: Layers, batch sizes or channels differ, or there is not one weight per layer.
    """
    pairs = paired_features(features, target_features)
    if weights is not None and len(weights) != len(pairs):
        raise InputError(f"{len(weights)} weights for {len(pairs)} layers; give one per layer")
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


@full_precision
def standardized_statistics_loss(
    statistics: Tensor, target: Tensor, spread: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Compute the distance of style statistics from a target, each in units of its spread.

    .. math:: L = \frac{1}{S} \sum_k h\bigl((s_k - t_k) / d_k\bigr), \qquad
        h(x) = \min(x^2 / 2, |x| - 1/2)

    Like :func:`style_statistics_loss`, but a channel counts by how much it distinguishes styles and
    not by the size of its values; the target may be the mean over many pictures. The Huber function
    h keeps rarely used channels from dominating. Computed in float32, also under autocast.

    Args:
        statistics: Statistics of the outputs, (B, S).
        target: Statistics of pictures of the styles, (B, S).
        spread: Standard deviation of each among pictures of all styles, (S,), positive.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; 0 if the statistics agree.

    Raises:
        InputError: The shapes are inconsistent.
    """
    if statistics.shape != target.shape or spread.shape != statistics.shape[1:]:
        raise InputError(
            f"statistics {tuple(statistics.shape)}, target {tuple(target.shape)} and spread "
            f"{tuple(spread.shape)} must be (B, S), (B, S) and (S,)"
        )
    losses = F.smooth_l1_loss(statistics / spread, target / spread, reduction="none")
    return reduce_samples(losses.mean(dim=1), reduction)


class StandardizedStatisticsLoss(nn.Module):
    """:func:`standardized_statistics_loss` with its spread."""

    spread: Tensor

    def __init__(self, spread: Tensor, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.register_buffer("spread", spread)
        self.reduction: Reduction = reduction

    def forward(self, statistics: Tensor, target: Tensor) -> Tensor:
        """See :func:`standardized_statistics_loss`."""
        return standardized_statistics_loss(statistics, target, self.spread, self.reduction)
