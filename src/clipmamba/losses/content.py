"""Content losses: preserve the photo's features, layout, color and flat areas."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, cross_entropy, normalize

from clipmamba.errors import InputError
from clipmamba.io.convert import luma
from clipmamba.losses._common import (
    Features,
    Reduction,
    full_precision,
    paired_features,
    reduce_samples,
    require_images,
    require_same_places,
)
from clipmamba.losses.statistics import channel_statistics


@full_precision
def content_loss(
    features: Features,
    target_features: Features,
    normalized: bool = True,
    reduction: Reduction = "mean",
    eps: float = 1e-5,
) -> Tensor:
    r"""Compute the mean squared difference of feature maps, summed over the layers.

    .. math:: L = \sum_l \operatorname{mean}\bigl((\hat f_l - \hat t_l)^2\bigr), \qquad
        \hat f = (f - \mu(f)) / \sigma(f)

    The perceptual content loss of Gatys et al. (CVPR 2016) and Johnson et al. (ECCV 2016). If
    normalized, each channel's mean and standard deviation, which belong to the style (Huang &
    Belongie, ICCV 2017), are removed first, so that it does not conflict with
    :func:`style_statistics_loss`. Computed in float32, also under autocast.

    Args:
        features: Feature maps of the output, one (B, C, H, W) per layer.
        target_features: Those of the photo, the same shapes.
        normalized: Remove the channels' means and standard deviations first.
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Added to the variances.

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; normalized, at most 4 per layer.

    Raises:
        InputError: The shapes differ.
    """
    pairs = paired_features(features, target_features)
    loss = torch.zeros((), device=pairs[0][0].device, dtype=pairs[0][0].dtype)
    for feature, target in pairs:
        require_same_places(feature, target)
        if normalized:
            feature, target = _normalize(feature, eps), _normalize(target, eps)
        loss = loss + (feature - target).square().mean(dim=(1, 2, 3))
    return reduce_samples(loss, reduction)


def _normalize(features: Tensor, eps: float) -> Tensor:
    mean, deviation = channel_statistics(features, eps)
    return (features - mean[:, :, None, None]) / deviation[:, :, None, None]


class ContentLoss(nn.Module):
    """:func:`content_loss` with its settings."""

    def __init__(
        self, normalized: bool = True, reduction: Reduction = "mean", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.normalized = normalized
        self.reduction: Reduction = reduction
        self.eps = eps

    def forward(self, features: Features, target_features: Features) -> Tensor:
        """See :func:`content_loss`."""
        return content_loss(features, target_features, self.normalized, self.reduction, self.eps)


@full_precision
def layout_loss(
    output: Tensor, photo: Tensor, size: int = 32, reduction: Reduction = "mean"
) -> Tensor:
    r"""Compute the mean squared difference of luma at low resolution.

    .. math:: L = \operatorname{mean}\bigl((\downarrow\!Y(y) - \downarrow\!Y(x))^2\bigr), \qquad
        Y = 0.2126 R + 0.7152 G + 0.0722 B

    It preserves light and shade, and leaves color and everything finer than a cell free: the
    low-frequency part of a content loss. Computed in float32, also under autocast.

    Args:
        output: Stylized pictures, (B, 3, H, W) in [0, 1].
        photo: The photos, the same shape and range.
        size: Cells along the longer side; each is the mean of its pixels.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar in [0, 1], or (B,) with reduction "none".

    Raises:
        InputError: The shapes differ or are not those of pictures, or ``size`` is not positive.
    """
    require_images(output)
    require_same_places(output, photo)
    difference = _from_afar(luma(output - photo), size)  # luma is linear
    return reduce_samples(difference.square().mean(dim=(1, 2, 3)), reduction)


class LayoutLoss(nn.Module):
    """:func:`layout_loss` with its settings."""

    def __init__(self, size: int = 32, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.size = size
        self.reduction: Reduction = reduction

    def forward(self, output: Tensor, photo: Tensor) -> Tensor:
        """See :func:`layout_loss`."""
        return layout_loss(output, photo, self.size, self.reduction)


@full_precision
def color_drift_loss(
    output: Tensor, photo: Tensor, size: int = 16, reduction: Reduction = "mean"
) -> Tensor:
    r"""Compute the color change that no map of the photo's colors explains, at low resolution.

    .. math:: L = \min_M \operatorname{mean}\bigl((\downarrow\!y - M \phi(\downarrow\!x))^2\bigr),
        \qquad \phi(x) = (1, r, g, b, r^2, g^2, b^2)

    The map M is fitted to each pair of pictures. A style may map any color to another one, but
    consistently over the picture: style statistics alone could be matched by a patch of color in a
    corner. Computed in float32, also under autocast.

    Args:
        output: Stylized pictures, (B, 3, H, W) in [0, 1].
        photo: The photos, the same shape and range.
        size: Cells along the longer side; each is the mean of its pixels.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar in [0, 0.25], or (B,) with reduction "none".

    Raises:
        InputError: The shapes differ or are not those of pictures, or ``size`` is not positive.
    """
    require_images(output)
    require_same_places(output, photo)
    seen = _from_afar(output, size).flatten(2).transpose(1, 2)  # (B, cells, 3)
    colors = _from_afar(photo, size).flatten(2).transpose(1, 2)
    parts = torch.cat([torch.ones_like(colors[..., :1]), colors, colors.square()], dim=2)
    cells = parts.shape[1]
    square = parts.transpose(1, 2) @ parts / cells
    square = square + 1e-4 * torch.eye(parts.shape[2], device=parts.device, dtype=parts.dtype)
    best = torch.linalg.solve(square, parts.transpose(1, 2) @ seen / cells)
    return reduce_samples((seen - parts @ best).square().mean(dim=(1, 2)), reduction)


def _from_afar(images: Tensor, size: int) -> Tensor:
    """Average pictures over cells, `size` of them along the longer side."""
    if size < 1:
        raise InputError(f"size must be at least 1, not {size}")
    height, width = images.shape[2:]
    shrink = min(1.0, size / max(height, width))
    return adaptive_avg_pool2d(
        images, (max(1, round(height * shrink)), max(1, round(width * shrink)))
    )


class ColorDriftLoss(nn.Module):
    """:func:`color_drift_loss` with its settings."""

    def __init__(self, size: int = 16, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.size = size
        self.reduction: Reduction = reduction

    def forward(self, output: Tensor, photo: Tensor) -> Tensor:
        """See :func:`color_drift_loss`."""
        return color_drift_loss(output, photo, self.size, self.reduction)


@full_precision
def excess_texture_loss(
    output: Tensor,
    photo: Tensor,
    window: int = 8,
    gain: float = 1.5,
    floor: float = 0.04,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Penalize local contrast where the photo has none.

    .. math:: L = \operatorname{mean}\bigl(\max(0, \sigma(y) - g\,\sigma(x) - f)\bigr)

    with :math:`\sigma` the standard deviation of luma in windows. Style statistics have no
    location, so empty skies would get texture too. Strokes fainter than the floor are allowed
    everywhere. Computed in float32, also under autocast.

    Args:
        output: Stylized pictures, (B, 3, H, W) in [0, 1].
        photo: The photos, the same shape and range.
        window: Side of the windows in pixels; they overlap by half.
        gain: g, factor on the photo's contrast that is allowed.
        floor: f, contrast that is allowed where the photo has none.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar in [0, 0.5], or (B,) with reduction "none".

    Raises:
        InputError: The shapes differ, are not those of pictures, or are smaller than a window.
    """
    require_images(output)
    require_same_places(output, photo)
    if window < 2 or window > min(output.shape[2:]):
        raise InputError(f"window must be from 2 to {min(output.shape[2:])} pixels, not {window}")
    excess = _local_deviation(output, window) - gain * _local_deviation(photo, window) - floor
    return reduce_samples(excess.clamp(min=0).mean(dim=(1, 2, 3)), reduction)


def _local_deviation(images: Tensor, window: int) -> Tensor:
    """Compute the standard deviation of luma in each window, (B, 1, H', W')."""
    brightness = luma(images)
    brightness = brightness - brightness.mean(dim=(2, 3), keepdim=True)  # for precision
    mean, square = (avg_pool2d(x, window, window // 2) for x in (brightness, brightness.square()))
    return ((square - mean.square()).clamp(min=0) + 1e-6).sqrt()


class ExcessTextureLoss(nn.Module):
    """:func:`excess_texture_loss` with its settings."""

    def __init__(
        self,
        window: int = 8,
        gain: float = 1.5,
        floor: float = 0.04,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.window, self.gain, self.floor = window, gain, floor
        self.reduction: Reduction = reduction

    def forward(self, output: Tensor, photo: Tensor) -> Tensor:
        """See :func:`excess_texture_loss`."""
        return excess_texture_loss(
            output, photo, self.window, self.gain, self.floor, self.reduction
        )


@full_precision
def patch_nce_loss(
    features: Features,
    target_features: Features,
    num_patches: int = 256,
    temperature: float = 0.07,
    generator: torch.Generator | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Compute InfoNCE between matching positions of output and photo, averaged over the layers.

    .. math:: L = -\frac{1}{n} \sum_i \log
        \frac{e^{\cos(f_i, t_i) / T}}{\sum_j e^{\cos(f_i, t_j) / T}}

    with i and j running over n random positions of the same picture. From CUT (Park et al., ECCV
    2020), without its learned projection: each position of the output must be closest to its own
    position in the photo, however its look has changed. Computed in float32, also under autocast.

    Args:
        features: Feature maps of the output, one (B, C, H, W) per layer.
        target_features: Those of the photo, the same shapes.
        num_patches: Positions n per layer, the same for the whole batch; all, if there are fewer.
        temperature: T > 0.
        generator: Source of the random positions; None for torch's global one.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; log n if no positions can be told apart.

    Raises:
        InputError: The shapes differ, or an argument is out of range.
    """
    if num_patches < 1:
        raise InputError(f"num_patches must be at least 1, not {num_patches}")
    if temperature <= 0:
        raise InputError(f"temperature must be positive, not {temperature}")
    pairs = paired_features(features, target_features)
    loss = torch.zeros((), device=pairs[0][0].device, dtype=pairs[0][0].dtype)
    for feature, target in pairs:
        require_same_places(feature, target)
        places = feature.shape[2] * feature.shape[3]
        draw_device = "cpu" if generator is None else generator.device
        chosen = torch.randperm(places, generator=generator, device=draw_device)
        chosen = chosen[:num_patches].to(feature.device)
        queries = normalize(feature.flatten(2)[:, :, chosen], dim=1)  # (B, C, n)
        keys = normalize(target.flatten(2)[:, :, chosen], dim=1)
        logits = queries.transpose(1, 2) @ keys / temperature  # (B, n, n)
        positives = torch.arange(len(chosen), device=logits.device).expand(len(logits), -1)
        losses = cross_entropy(logits.transpose(1, 2), positives, reduction="none")  # (B, n)
        loss = loss + losses.mean(dim=1) / len(pairs)
    return reduce_samples(loss, reduction)


class PatchNCELoss(nn.Module):
    """:func:`patch_nce_loss` with its settings."""

    def __init__(
        self, num_patches: int = 256, temperature: float = 0.07, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self,
        features: Features,
        target_features: Features,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :func:`patch_nce_loss`."""
        return patch_nce_loss(
            features,
            target_features,
            self.num_patches,
            self.temperature,
            generator,
            self.reduction,
        )
