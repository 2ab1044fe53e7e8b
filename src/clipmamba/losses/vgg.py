"""Texture and structure losses on the first layers of VGG19.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clipmamba.errors import WeightsError
from clipmamba.losses._common import Reduction, reduce_samples
from clipmamba.weights import check_shapes, read_tensors

_CONVOLUTIONS = (
    ("conv1_1", 3, 64), ("conv1_2", 64, 64), ("conv2_1", 64, 128), ("conv2_2", 128, 128),
    ("conv3_1", 128, 256),
)  # fmt: skip
_SEEN = ("conv1_1", "conv2_1", "conv3_1")  # their outputs after ReLU
_BEFORE_POOL = ("conv1_2", "conv2_2")


class VggFeatures(nn.Module):
    """The "normalized" VGG19 of the style transfer literature, up to relu3_1; frozen.

    Borders are padded with zeros instead of mirrored, which is cheaper, and the same for all
    pictures that are compared.

    Args:
        weights: safetensors file with `to_bgr` (1×1) and `conv1_1` … `conv3_1`.

    Raises:
        WeightsError: The file can't be read, or has other weights.
    """

    def __init__(self, weights: str | Path):
        super().__init__()
        self.to_bgr = nn.Conv2d(3, 3, 1)
        for name, inputs, outputs in _CONVOLUTIONS:
            setattr(self, name, nn.Conv2d(inputs, outputs, 3, padding=1))
        try:
            tensors, _ = read_tensors(Path(weights))
            check_shapes(Path(weights), tensors, self.state_dict())
        except WeightsError as error:
            raise WeightsError(f"can't load VGG: {error}") from error
        self.load_state_dict(tensors)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map sRGB (B, 3, H, W) in [0, 1] to relu1_1, relu2_1 and relu3_1."""
        x = self.to_bgr(images.contiguous(memory_format=torch.channels_last))
        seen = []
        for name, _, _ in _CONVOLUTIONS:
            x = F.relu(getattr(self, name)(x))
            if name in _SEEN:
                seen.append(x)
            if name in _BEFORE_POOL:
                x = F.max_pool2d(x, 2)
        return seen


class Moments(NamedTuple):
    """First and second moments of feature channels over all positions, which describe texture."""

    gram: Tensor
    """Mean product of every two channels, float32, (B, C, C)."""
    mean: Tensor
    """Mean of each channel, float32, (B, C)."""

    def rows(self, selection: slice) -> Moments:
        """Select pictures of the batch."""
        return Moments(self.gram[selection], self.mean[selection])

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each channel, (B, C)."""
        variance = self.gram.diagonal(dim1=1, dim2=2) - self.mean.square()
        return (variance.clamp(min=0) + 1e-4).sqrt()


def texture_moments(features: Tensor) -> Moments:
    """Compute the moments of feature maps (B, C, H, W), in one pass each way."""
    return Moments(*_Moments.apply(features))


class _Moments(torch.autograd.Function):
    """One matrix product each way, in the maps' own dtype, with sums in float32.

    Plain autograd keeps a float32 copy of the maps and adds three gradients in different layouts,
    which costs twice as much as VGG itself.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        ctx.save_for_backward(rows)
        ctx.size = height, width
        with torch.autocast(features.device.type, enabled=False):
            gram = (rows.transpose(1, 2) @ rows).float() / rows.shape[1]
            return gram, rows.mean(1, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_gram: Tensor, of_mean: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        batch, places, channels = rows.shape
        with torch.autocast(rows.device.type, enabled=False):
            mixed = ((of_gram + of_gram.transpose(1, 2)) / places).to(rows.dtype)
            start = (of_mean / places).to(rows.dtype)[:, None].expand(rows.shape)
            gradient = torch.baddbmm(start, rows, mixed)
        return gradient.view(batch, *ctx.size, channels).permute(0, 3, 1, 2)


def texture_loss(
    moments: Sequence[Moments], targets: Sequence[Moments], reduction: Reduction = "mean"
) -> Tensor:
    r"""Compute relative squared distances of Gram matrices, means and standard deviations.

    .. math:: L = \frac{1}{3 n} \sum_l \sum_{s \in \{G, \mu, \sigma\}}
        \frac{\lVert s_l - \hat s_l \rVert^2}{\lVert \hat s_l \rVert^2}

    Args:
        moments: Moments of the output's n feature maps, from `texture_moments`.
        targets: Moments of the style picture's feature maps.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none".
    """
    total = torch.zeros((), device=moments[0].gram.device)
    for own, wanted in zip(moments, targets, strict=True):
        for value, target in (
            (own.gram, wanted.gram),
            (own.mean, wanted.mean),
            (own.deviation, wanted.deviation),
        ):
            distance = (value - target).square().flatten(1).sum(1)
            total = total + distance / (target.square().flatten(1).sum(1) + 1e-3)
    return reduce_samples(total / (3 * len(moments)), reduction)


def structure_loss(
    features: Tensor, moments: Moments, photo_features: Tensor, photo_moments: Moments
) -> Tensor:
    r"""Compute the difference between feature maps and the photo's, apart from their moments.

    .. math:: L = \frac{2}{C} \sum_c (1 - \rho_c)

    with ρ the correlation of channel c over positions. This equals the mean squared difference
    after instance normalization, the content loss of AdaIN-like methods, without normalized copies.

    Args:
        features: Feature map of the output, (B, C, H, W).
        moments: Moments of `features`.
        photo_features: Feature map of the photo, of the same shape.
        photo_moments: Moments of `photo_features`.

    Returns:
        (B,), in [0, 4].
    """
    product = (features * photo_features).mean((2, 3), dtype=torch.float32)
    covariance = product - moments.mean * photo_moments.mean
    correlation = covariance / (moments.deviation * photo_moments.deviation)
    return 2 * (1 - correlation).mean(1)
