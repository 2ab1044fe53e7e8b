"""The convolutional parts of the network: styled convolutions, upsampling, grain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn.conditioning import PictureMoments, StyleNorm


class StyledConv(nn.Module):
    """3×3 convolution, instance normalization, the style's scale and shift, SiLU.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        code_dim: Width of the style code.
        stride: 1, or 2 to halve the size.
    """

    def __init__(self, inputs: int, outputs: int, code_dim: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = StyleNorm(outputs, code_dim)

    def forward(self, x: Tensor, code: Tensor, whole: PictureMoments | None = None) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride); see `StyleNorm`."""
        return F.silu(self.norm(self.conv(x), code, whole))


class SmoothUp(nn.Module):
    """Doubles the size: a 1×1 convolution, then bilinear interpolation.

    Learned upsampling, such as a pixel shuffle, draws lattices in place of strokes (Odena et al.,
    "Deconvolution and Checkerboard Artifacts", Distill 2016).

    Args:
        inputs: Channels in.
        outputs: Channels out.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        return F.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear")


class Grain(nn.Module):
    """Adds noise to a feature map, with a gain per channel from the style.

    Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks",
    CVPR 2019. Prints need no noise; dabs and hatching grow from it.

    Args:
        noise: Channels of noise.
        channels: Channels C of the feature map.
        code_dim: Width of the style code.
    """

    def __init__(self, noise: int, channels: int, code_dim: int):
        super().__init__()
        self.mix = nn.Conv2d(noise, channels, 1, bias=False)
        self.to_gain = nn.Linear(code_dim, channels)
        nn.init.normal_(self.to_gain.weight, std=0.02)
        nn.init.constant_(self.to_gain.bias, 0.3)

    def forward(self, x: Tensor, noise: Tensor, code: Tensor) -> Tensor:
        """Add noise (B or 1, noise, H, W) to (B, C, H, W), given the style code (B, code_dim)."""
        gain = self.to_gain(code).to(x.dtype)[:, :, None, None]
        mixed: Tensor = self.mix(noise.to(x.dtype))
        return torch.addcmul(x, gain, mixed)

    def power(self, code: Tensor) -> Tensor:
        """Compute the mean variance (B,) of what is added, given the style code (B, code_dim).

        It has a gradient for the gains only: all styles share the rest.
        """
        unit = self.mix.weight.detach().square().sum((1, 2, 3))  # of each channel, at a gain of 1
        variance: Tensor = (self.to_gain(code).square() * unit).mean(1)
        return variance
