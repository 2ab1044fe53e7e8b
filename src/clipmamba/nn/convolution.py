"""The convolutional ends of the backbone: stem, styled stages, head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn.conditioning import StyleAffine, StyleNorm


class ConvStage(nn.Module):
    """3×3 convolution, the style's scale and shift, SiLU.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        code_dim: Width of the style code.
        stride: 1, or 2 to halve the size.
        normalise: Whether the style's scale and shift follow an instance normalisation. Without
            it the photo's own brightness and contrast come through.
    """

    def __init__(
        self, inputs: int, outputs: int, code_dim: int, stride: int = 1, normalise: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate", bias=False
        )
        self.norm = (StyleNorm if normalise else StyleAffine)(outputs, code_dim)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return F.silu(self.norm(self.conv(x), code))


class Stem(nn.Module):
    """Photo to features at a half, a quarter and an eighth of its size.

    Args:
        widths: Channels at 1/2, 1/4, 1/8.
        code_dim: Width of the style code.
        grid_periods: Periods in pixels of sine and cosine waves along x and y that are given
            beside the photo, for styles made of a grid (pixels, dots, stitches).
    """

    def __init__(
        self, widths: tuple[int, int, int], code_dim: int, grid_periods: tuple[int, ...] = ()
    ):
        super().__init__()
        self.grid_periods = grid_periods
        inputs = 12 + 4 * len(grid_periods)
        self.to_half = ConvStage(inputs, widths[0], code_dim, normalise=False)
        self.to_quarter = ConvStage(widths[0], widths[1], code_dim, stride=2)
        self.to_eighth = ConvStage(widths[1], widths[2], code_dim, stride=2)

    def forward(self, photo: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, 3, H, W), H and W multiples of 8, to the three feature maps."""
        x = F.pixel_unshuffle(photo * 2 - 1, 2)
        if self.grid_periods:
            grid = _waves(self.grid_periods, x.shape[2], x.shape[3], x)
            x = torch.cat([x, grid.expand(len(x), -1, -1, -1)], dim=1)
        half = self.to_half(x.contiguous(memory_format=torch.channels_last), code)
        quarter = self.to_quarter(half, code)
        return half, quarter, self.to_eighth(quarter, code)


def _waves(periods: tuple[int, ...], height: int, width: int, like: Tensor) -> Tensor:
    """Waves (1, 4P, H/2, W/2) at the half-size map's places, periods in photo pixels."""
    y = torch.arange(height, device=like.device) * 2 * math.tau
    x = torch.arange(width, device=like.device) * 2 * math.tau
    maps = []
    for period in periods:
        for wave in (torch.sin, torch.cos):
            maps += [wave(y / period)[:, None].expand(height, width)]
            maps += [wave(x / period)[None, :].expand(height, width)]
    return torch.stack(maps)[None].to(like.dtype)


class Head(nn.Module):
    """Features at half size and the photo to the picture.

    Args:
        inputs: Channels of the half-size features.
        width: Channels at full size.
        code_dim: Width of the style code.
    """

    def __init__(self, inputs: int, width: int, code_dim: int):
        super().__init__()
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.full = ConvStage(width + 3, width, code_dim, normalise=False)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate")

    def forward(self, half: Tensor, photo: Tensor, code: Tensor) -> Tensor:
        """Maps (B, inputs, H/2, W/2) and the photo (B, 3, H, W) to (B, 3, H, W)."""
        x = F.interpolate(self.reduce(half), scale_factor=2.0, mode="bilinear")
        x = self.full(torch.cat([x, (photo * 2 - 1).to(x.dtype)], dim=1), code)
        picture: Tensor = self.to_rgb(x)
        return picture + 0.5
