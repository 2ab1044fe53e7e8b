"""Adversarial loss on patches: results must look painted, whatever the position of strokes."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from clipmamba.losses._common import Reduction, full_precision, reduce_samples


class PatchDiscriminator(nn.Module):
    """Scores patches of 46 pixels by how well they show this style on this photo.

    Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017;
    the style enters by projection as in Miyato & Koyama, "cGANs with Projection Discriminator",
    ICLR 2018.

    Args:
        style_dim: Width E of the style embeddings.
        width: Channels at half size; doubled with each halving.
    """

    def __init__(self, style_dim: int, width: int = 32):
        super().__init__()
        channels = (6, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            for inputs, outputs in itertools.pairwise(channels)
        )
        self.mix = nn.Conv2d(channels[-1], channels[-1], 4, padding=1)
        self.score = nn.Conv2d(channels[-1], 1, 1)
        self.style = nn.Linear(style_dim, channels[-1])
        self.scale = style_dim**0.5  # from unit rows to unit variance

    def forward(self, picture: Tensor, photo: Tensor, style: Tensor) -> Tensor:
        """Compute scores (B, 1, h, w) of pictures (B, 3, H, W), given photos and styles (B, E)."""
        x = torch.cat([picture, photo], dim=1).contiguous(memory_format=torch.channels_last) * 2 - 1
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        x = F.leaky_relu(self.mix(x), 0.2)
        wanted = self.style(style * self.scale)[:, :, None, None]
        score: Tensor = self.score(x) + (x * wanted).mean(dim=1, keepdim=True)
        return score


class FeatureDiscriminator(nn.Module):
    """Scores patches of five by five places of a feature map by how well they show a style.

    Features of a frozen network let it start from what already describes texture, as in Sauer et
    al., "Projected GANs Converge Faster", NeurIPS 2021. The style is described by the channels'
    means and standard deviations over its picture, which also set the scale of the features, and
    enters at the first layer and by projection (see `PatchDiscriminator`). All layers have spectral
    norm 1 (Miyato et al., ICLR 2018).

    Args:
        channels: Channels C of the feature maps.
        width: Channels inside.
    """

    def __init__(self, channels: int, width: int = 96):
        super().__init__()
        self.enter = spectral_norm(nn.Conv2d(channels, width, 1))
        self.shift = spectral_norm(nn.Linear(2 * channels, width))
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 3)) for _ in range(2))
        self.score = spectral_norm(nn.Conv2d(width, 1, 1))
        self.style = spectral_norm(nn.Linear(2 * channels, width))
        self.to(memory_format=torch.channels_last)  # as the features are

    def forward(self, features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Compute scores (B, 1, H - 4, W - 4).

        Args:
            features: Feature maps, (B, C, H, W) with H and W at least 5.
            mean: Mean of each channel over the style's picture, (B, C).
            deviation: Standard deviation of each channel, (B, C).
        """
        known = torch.cat([mean, deviation], dim=1)
        scale = known.square().sum(1, keepdim=True).div(mean.shape[1]).sqrt()
        known, scale = (known / scale).to(features.dtype), scale.to(features.dtype)
        x = self.enter(features / scale[:, :, None, None])
        x = F.leaky_relu(x + self.shift(known)[:, :, None, None], 0.2)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        wanted = self.style(F.normalize(known, dim=1))[:, :, None, None]
        score: Tensor = self.score(x) + (x * wanted).sum(dim=1, keepdim=True)
        return score


@full_precision
def adversarial_loss(scores: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Compute the generator's adversarial loss: :math:`\overline{(s - 1)^2}`.

    Least squares as in Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017.

    Args:
        scores: A discriminator's scores of generated pictures, (B, ...).
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none".
    """
    return reduce_samples((scores - 1).square().flatten(1).mean(1), reduction)


@full_precision
def discriminator_loss(
    real_scores: Tensor, fake_scores: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""Compute the discriminator's loss: :math:`\overline{(r - 1)^2} + \overline{f^2}`.

    Args:
        real_scores: Scores of real results, (B, ...).
        fake_scores: Scores of generated pictures, detached from their generator.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar >= 0, or (B,) with reduction "none"; 0 if every patch is classified correctly.
    """
    real = (real_scores - 1).square().flatten(1).mean(1)
    return reduce_samples(real + fake_scores.square().flatten(1).mean(1), reduction)
