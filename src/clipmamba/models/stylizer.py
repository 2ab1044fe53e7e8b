"""The stylizer: a photo flows once through a Mamba backbone that a style point bends."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.models.pretrained import Pretrained, configured
from clipmamba.nn import (
    ConvStage,
    Head,
    PictureMoments,
    Stem,
    StyleBlock,
    StyleProjection,
    StyleUpsample,
)

STRIDE = 8  # pixels of the photo to one place of the deepest feature map


class Stylizer(Pretrained):
    """Restyles a photo in one pass; linear in its pixels with the default mixer.

    A convolutional stem goes down to an eighth of the size, blocks mix there over the whole
    picture, further blocks at a quarter, and a light decoder with skips comes back up. The style
    point enters every layer.

    Args:
        style_dim: Width E of the style points: CLIP's embedding width.
        clip: Name of the CLIP whose space the style points lie in.
        widths: Channels at 1/2, 1/4 and 1/8 of the size.
        depth: Blocks at 1/8.
        quarter_depth: Blocks at 1/4, in the decoder.
        head_width: Channels at full size.
        state: States per channel of the scan.
        expand: Width of the feed-forward nets in channels.
        code_dim: Width of the style code.
        noise: Channels of noise given to the stem, the source of grain and strokes.
        mixer: "mamba", "attention" or "conv".
        bend: Whether the style bends the scan's parameters (mixer "mamba").
        least_step: Of the scan: its states fade after 1 / least_step places, so that a picture
            larger than those of the training looks like them.
    """

    keep_in_float32: ClassVar[tuple[str, ...]] = ("A_log", "delta_bias", "D")
    margin = 16  # pixels to show beyond each edge, where the scans have seen nothing yet
    stride = STRIDE
    noise_stride = 2  # pixels to one place of the noise
    code_bias = "style.net.2.bias"  # parameter that moves the style code of every layer

    @configured
    def __init__(
        self,
        style_dim: int = 256,
        clip: str = "mini",
        widths: tuple[int, int, int] = (32, 64, 160),
        depth: int = 5,
        quarter_depth: int = 2,
        head_width: int = 16,
        state: int = 16,
        expand: int = 2,
        code_dim: int = 256,
        noise: int = 4,
        mixer: Literal["mamba", "attention", "conv"] = "mamba",
        bend: bool = True,
        least_step: float = 0.05,
    ):
        super().__init__()
        half, quarter, eighth = widths

        def blocks(dim: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(
                StyleBlock(dim, code_dim, mixer, state, expand, bend, least_step)
                for _ in range(count)
            )

        self.style = StyleProjection(style_dim, code_dim)
        self.stem = Stem((half, quarter, eighth), code_dim, noise)
        self.blocks = blocks(eighth, depth)
        self.reduce_eighth = nn.Conv2d(eighth, quarter, 1)
        self.to_quarter = StyleUpsample(quarter, code_dim)
        self.join_quarter = ConvStage(2 * quarter, quarter, code_dim)
        self.quarter_blocks = blocks(quarter, quarter_depth)
        self.reduce_quarter = nn.Conv2d(quarter, half, 1)
        self.to_half = StyleUpsample(half, code_dim)
        self.join_half = ConvStage(2 * half, half, code_dim, normalize=False)
        self.refine_half = ConvStage(half, half, code_dim, normalize=False)
        self.head = Head(half, head_width, code_dim)

    def forward(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor | None = None,
        whole: PictureMoments | None = None,
    ) -> Tensor:
        """Restyles photos.

        Args:
            photo: sRGB in [0, 1], (B, 3, H, W), any H and W from 1 pixel up.
            style: Unit style points, (B, E), one for each photo.
            noise: As `draw_noise` gives it; that of seed 0 where missing.
            whole: Of the pictures that `photo` is a tile of; empty, it is filled from `photo`.

        Returns:
            Pictures (B, 3, H, W), sRGB that may leave [0, 1]; see `into_gamut`.

        Raises:
            ValueError: The shapes do not fit each other or the model.
        """
        self._check(photo, style)
        height, width = photo.shape[2:]
        padded, noise = self._padded(photo, noise)
        picture = self.restyle(padded, style, noise, whole)
        return picture[:, :, :height, :width].to(photo.dtype)

    def survey(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: PictureMoments,
        stem_only: bool = False,
    ) -> None:
        """`forward` as far as it asks `whole`, or as the stem does; draws nothing."""
        self._check(photo, style)
        padded, noise = self._padded(photo, noise)
        code = self.style(style)
        if stem_only:
            self.stem(padded, noise, code, whole)
        else:
            self._features(padded, noise, code, whole)

    def restyle(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        """`forward` without checks, for (B, 3, H, W) with H and W multiples of 8."""
        code = self.style(style)
        half, x = self._features(photo, noise, code, whole)
        x = _run(self.quarter_blocks, x, code)
        x = self.to_half(self.reduce_quarter(x), code)
        x = self.join_half(torch.cat([x, half], dim=1), code)
        x = x + self.refine_half(x, code)
        picture: Tensor = self.head(x, photo, code)
        return picture

    def _features(
        self, photo: Tensor, noise: Tensor, code: Tensor, whole: PictureMoments | None
    ) -> tuple[Tensor, Tensor]:
        """At a half of the size from the stem, and at a quarter from the deepest blocks."""
        half, quarter, x = self.stem(photo, noise, code, whole)
        x = _run(self.blocks, x, code)
        x = self.to_quarter(self.reduce_eighth(x), code)
        return half, self.join_quarter(torch.cat([x, quarter], dim=1), code, whole)

    def _padded(self, photo: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """The photo filled up to the network's stride, and its noise, that of seed 0 if None."""
        height, width = photo.shape[2:]
        if noise is None:
            noise = self.draw_noise(height, width)
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        return F.pad(photo, padding, mode="replicate"), noise.to(photo.device)

    def draw_noise(self, height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
        """Noise for photos of a size: another seed gives another grain.

        Args:
            height: H in pixels.
            width: W in pixels.
            seed: The same seed and size give the same noise on every device.
            batch: Rows that differ; one row serves any number of photos.

        Returns:
            Standard normal numbers on the CPU, (batch, noise, H/2, W/2) of the padded size.
        """
        size = [-(-side // STRIDE) * STRIDE // 2 for side in (height, width)]
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(
            batch, self.config.noise, *size, generator=generator, dtype=torch.float32, device="cpu"
        )

    def _check(self, photo: Tensor, style: Tensor) -> None:
        if photo.ndim != 4 or photo.shape[1] != 3 or 0 in photo.shape:
            raise ValueError(f"photo must be (B, 3, H, W), not {tuple(photo.shape)}")
        wanted = (photo.shape[0], self.config.style_dim)  # len() would fix the batch of an export
        if style.shape != wanted:
            raise ValueError(
                f"style must be {wanted}, one point for each photo, not {tuple(style.shape)}"
            )


def _run(blocks: nn.ModuleList, x: Tensor, code: Tensor) -> Tensor:
    """Run blocks, which have channels last, on a feature map (B, C, H, W)."""
    x = x.permute(0, 2, 3, 1)
    for block in blocks:
        x = block(x, code)
    return x.permute(0, 3, 1, 2)
