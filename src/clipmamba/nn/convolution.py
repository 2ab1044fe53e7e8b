"""The convolutional parts of the network: stem, styled stages, head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn.conditioning import PictureMoments, StyleAffine, StyleNorm


class ConvStage(nn.Module):
    """3×3 convolution, the style's scale and shift, SiLU.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        code_dim: Width of the style code.
        stride: 1, or 2 to halve the size.
        normalize: Whether instance normalization precedes the style's scale and shift. Without it,
            the photo's own brightness and contrast are kept.
    """

    def __init__(
        self, inputs: int, outputs: int, code_dim: int, stride: int = 1, normalize: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate", bias=False
        )
        self.norm = (StyleNorm if normalize else StyleAffine)(outputs, code_dim)

    def forward(self, x: Tensor, code: Tensor, whole: PictureMoments | None = None) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride); see `StyleNorm`."""
        x = self.conv(x)
        if isinstance(self.norm, StyleNorm):
            return F.silu(self.norm(x, code, whole))
        return F.silu(self.norm(x, code))


class StyleUpsample(nn.Module):
    """Doubles the size; the style blends smooth and blocky upsampling in each channel.

    Smooth (bilinear) upsampling suits brushes. Blocks (nearest) make the network's own grid
    visible, which suits pixel art, stitches and tiles only.

    Args:
        channels: Channels C of the feature map.
        code_dim: Width of the style code.
    """

    def __init__(self, channels: int, code_dim: int):
        super().__init__()
        self.to_blockiness = nn.Linear(code_dim, channels)
        nn.init.normal_(self.to_blockiness.weight, std=0.02)
        nn.init.zeros_(self.to_blockiness.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map (B, C, H, W) and the style code (B, code_dim) to (B, C, 2H, 2W)."""
        blockiness = self.to_blockiness(code).to(x.dtype)[:, :, None, None]
        smooth = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        return torch.lerp(smooth, F.interpolate(x, scale_factor=2.0, mode="nearest"), blockiness)


class Stem(nn.Module):
    """Maps a photo to features at a half, a quarter and an eighth of its size.

    Args:
        widths: Channels at 1/2, 1/4, 1/8.
        code_dim: Width of the style code.
        noise: Channels of noise beside the photo, the source of grain and strokes.
    """

    def __init__(self, widths: tuple[int, int, int], code_dim: int, noise: int = 0):
        super().__init__()
        self.to_half = ConvStage(12 + noise, widths[0], code_dim, normalize=False)
        self.to_quarter = ConvStage(widths[0], widths[1], code_dim, stride=2)
        self.to_eighth = ConvStage(widths[1], widths[2], code_dim, stride=2)

    def forward(
        self, photo: Tensor, noise: Tensor, code: Tensor, whole: PictureMoments | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, 3, H, W), H and W multiples of 8, to the three feature maps.

        Args:
            photo: (B, 3, H, W).
            noise: (B or 1, noise, H/2, W/2).
            code: (B, code_dim).
            whole: See `StyleNorm`.
        """
        noise = noise.to(photo.dtype).expand(photo.shape[0], -1, -1, -1)
        x = torch.cat([F.pixel_unshuffle(photo * 2 - 1, 2), noise], dim=1)
        half = self.to_half(x.contiguous(memory_format=torch.channels_last), code)
        quarter = self.to_quarter(half, code, whole)
        return half, quarter, self.to_eighth(quarter, code, whole)


class Head(nn.Module):
    """Maps features at half size and the photo to the picture.

    Args:
        inputs: Channels of the half-size features.
        width: Channels at full size.
        code_dim: Width of the style code.
    """

    def __init__(self, inputs: int, width: int, code_dim: int):
        super().__init__()
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.to_full = StyleUpsample(width, code_dim)
        self.full = ConvStage(width + 3, width, code_dim, normalize=False)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate")

    def forward(self, half: Tensor, photo: Tensor, code: Tensor) -> Tensor:
        """Map (B, inputs, H/2, W/2) and the photo (B, 3, H, W) to (B, 3, H, W)."""
        x = self.to_full(self.reduce(half), code)
        x = self.full(torch.cat([x, (photo * 2 - 1).to(x.dtype)], dim=1), code)
        picture: Tensor = self.to_rgb(x)
        return picture + 0.5
