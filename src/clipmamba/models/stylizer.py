"""The stylizer: one pass of a photo through a Mamba backbone conditioned on a style embedding."""

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

STRIDE = 8  # pixels of the photo per position of the deepest feature map


class Stylizer(Pretrained):
    """Restyles a photo in one pass; linear in its pixels with the default mixer.

    A convolutional stem reduces the photo to an eighth of its size, blocks mix there over the whole
    picture and again at a quarter, and a light decoder with skips upsamples. The style conditions
    every layer.

    Args:
        style_dim: Width E of the style embeddings, CLIP's embedding width.
        clip: Name of the CLIP model whose space they lie in.
        widths: Channels at 1/2, 1/4 and 1/8 of the size.
        depth: Blocks at 1/8.
        quarter_depth: Blocks at 1/4, in the decoder.
        head_width: Channels at full size.
        state: States per channel of the scan.
        expand: Width of the feed-forward nets in channels.
        code_dim: Width of the style code.
        noise: Channels of noise for the stem, the source of grain and strokes.
        mixer: "mamba", "attention" or "conv".
        bend: Whether the style modulates the scan's parameters (mixer "mamba").
        least_step: Minimum step size of the scan; states fade after 1 / least_step positions, so
            that the network generalizes to larger pictures.

    Examples:
        >>> network = Stylizer(style_dim=16, widths=(8, 8, 8), depth=1, quarter_depth=1)
        >>> network(torch.rand(2, 3, 40, 33), torch.randn(2, 16)).shape
        torch.Size([2, 3, 40, 33])
    """

    keep_in_float32: ClassVar[tuple[str, ...]] = ("A_log", "delta_bias", "D")
    margin = 16  # pixels of padding at each edge, where scans lack context
    stride = STRIDE
    noise_stride = 2  # pixels per position of the noise
    code_bias = "style.net.2.bias"  # parameter that shifts the style code of every layer

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
        """Restyle photos.

        Args:
            photo: sRGB in [0, 1], (B, 3, H, W), H and W at least 1.
            style: Unit style embeddings, (B, E), one for each photo.
            noise: Noise from `draw_noise`; None for that of seed 0.
            whole: Moments of the whole pictures if `photo` is a tile; if empty, it is filled from
                `photo`.

        Returns:
            Pictures (B, 3, H, W), sRGB; values may leave [0, 1], see `into_gamut`.

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
        """Run `forward` only as far as it needs `whole`, or only the stem; draws nothing."""
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
        """Run `forward` without checks, for (B, 3, H, W) with H and W multiples of 8."""
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
        """Compute features at half size from the stem, and at a quarter from the deepest blocks."""
        half, quarter, x = self.stem(photo, noise, code, whole)
        x = _run(self.blocks, x, code)
        x = self.to_quarter(self.reduce_eighth(x), code)
        return half, self.join_quarter(torch.cat([x, quarter], dim=1), code, whole)

    def _padded(self, photo: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pad the photo to the network's stride; return it and its noise, by default of seed 0."""
        height, width = photo.shape[2:]
        if noise is None:
            noise = self.draw_noise(height, width)
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        return F.pad(photo, padding, mode="replicate"), noise.to(photo.device)

    def draw_noise(self, height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
        """Draw noise for photos of a size; each seed gives another grain.

        Args:
            height: H in pixels.
            width: W in pixels.
            seed: The same seed and size give the same noise on every device.
            batch: Number of different rows; one row serves any number of photos.

        Returns:
            Standard normal noise on the CPU, (batch, noise, H/2, W/2) of the padded size.
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
                f"style must be {wanted}, one row for each photo, not {tuple(style.shape)}"
            )


def _run(blocks: nn.ModuleList, x: Tensor, code: Tensor) -> Tensor:
    """Run blocks, which use channels last, on a feature map (B, C, H, W)."""
    x = x.permute(0, 2, 3, 1)
    for block in blocks:
        x = block(x, code)
    return x.permute(0, 3, 1, 2)
