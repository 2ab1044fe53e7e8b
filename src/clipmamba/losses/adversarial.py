"""Adversarial loss on patches: results must look painted, whatever the position of strokes."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
