"""The stylizer: one pass of a photo through a Mamba backbone conditioned on a style embedding."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.models.pretrained import Pretrained, configured
from clipmamba.nn import (
    Grain,
    PictureMoments,
    SmoothUp,
    StyleAffine,
    StyleBlock,
    StyledConv,
    StyleNorm,
    Surveyed,
    TileMoments,
)

STRIDE = 8  # pixels of the photo per position of the deepest feature map
NATIVE_SIDE = 512  # longest side in pixels at which the network's stroke size is 1
LEAST_STROKE, LARGEST_STROKE = 0.5, 5.0  # default range of stroke sizes in training
SHARPNESS = 20.0  # of the softmax over cosine similarities to the anchors
ANCHOR_LENGTH = 3.0  # of an anchor's number, in lengths of the rest of the code; see `encode`


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Extrapolation of style codes away from their mean; see `Stylizer.middle_code`.

    The anchors' part of a code stays as trained: each of its numbers belongs to one look, which has
    nothing of the others to be freed from. Noise and the decoder's last layers, at half size, take
    the code as trained, too: the former would make flecks, the latter set the brightness, and
    extrapolation turned dark styles gray.

    Attributes:
        factor: Factor on a code's distance from the mean; 1 leaves it as trained.
        middle: Mean style code without the anchors' part, (code_dim,).
    """

    factor: float
    middle: Tensor

    def __call__(self, code: Tensor) -> Tensor:
        """Extrapolate style codes (B, code_dim + anchors)."""
        if self.factor == 1:
            return code
        own, anchors = code[:, : len(self.middle)], code[:, len(self.middle) :]
        own = torch.lerp(self.middle.to(code).expand_as(own), own, self.factor)
        return torch.cat([own, anchors], 1)


class Stylizer(Pretrained):
    """Restyles a photo in one pass; linear in its pixels with the default mixer.

    A stem reduces the photo to an eighth of its size, where Mamba blocks mix over the whole
    picture; a decoder draws strokes at a quarter of the size and upsamples to half size, where
    twelve channels are the pixels. One skip, at a quarter, keeps faces and contours, as far as the
    style wants them; finer skips would carry the photo itself through, which makes photorealistic
    filters (Yoo et al., "Photorealistic Style Transfer via Wavelet Transforms", ICCV 2019). Style
    embedding and stroke size condition every layer, and instance normalization before it lets the
    style alone decide how strong each feature is.

    Args:
        style_dim: Width E of the style embeddings, CLIP's embedding width.
        clip: Name of the CLIP model whose space they lie in.
        widths: Channels at 1/2, 1/4 and 1/8 of the size.
        depth: Blocks at 1/8.
        quarter_depth: Convolutions at 1/4, in the decoder.
        half_depth: Convolutions at 1/2, in the decoder.
        state: States per channel of the scan.
        expand: Width of the feed-forward nets in channels.
        code_dim: Width of the style code, without the anchors' part.
        anchors: Style embeddings that have a number of their own in the code, large near the
            anchor and 0 elsewhere, so that each can be learned without changing the others.
        noise: Channels of noise, the source of dabs and grain.
        noise_scale: Factor on the noise; below 1, a trained network makes calmer pictures, closer
            to the photo.
        mixer: "mamba", "attention" or "conv".
        bend: Whether the style modulates the scan's parameters (mixer "mamba").
        least_step: Minimum step size of the scan; states fade after 1 / least_step positions of
            8 pixels.

    Examples:
        >>> network = Stylizer(style_dim=16, widths=(8, 8, 8), depth=1, quarter_depth=1)
        >>> network(torch.rand(2, 3, 40, 33), torch.randn(2, 16)).shape
        torch.Size([2, 3, 40, 33])
    """

    keep_in_float32: ClassVar[tuple[str, ...]] = ("A_log", "delta_bias", "D")
    margin: ClassVar[int] = 24
    """Pixels of padding at each edge of a photo, where scans lack context."""
    noise_stride: ClassVar[int] = 4
    """Pixels of the photo per position of the noise."""
    code_bias: ClassVar[str] = "to_code.1.bias"
    """Parameter that shifts the style code of every layer."""

    @configured
    def __init__(
        self,
        style_dim: int = 256,
        clip: str = "mini",
        widths: tuple[int, int, int] = (32, 80, 160),
        depth: int = 5,
        quarter_depth: int = 4,
        half_depth: int = 1,
        state: int = 8,
        expand: int = 2,
        code_dim: int = 256,
        anchors: int = 0,
        noise: int = 4,
        noise_scale: float = 1.0,
        mixer: Literal["mamba", "attention", "conv"] = "mamba",
        bend: bool = True,
        least_step: float = 0.1,
    ):
        super().__init__()
        half, quarter, eighth = widths
        self.anchors: Tensor
        self.register_buffer("anchors", torch.zeros(anchors, style_dim) if anchors else None)
        self.from_point = nn.Linear(style_dim, code_dim)
        self.from_stroke = nn.Linear(3, code_dim)
        self.to_code = nn.Sequential(nn.SiLU(), nn.Linear(code_dim, code_dim))
        code_dim += anchors
        self.to_half = StyledConv(12, half, code_dim)
        self.to_quarter = StyledConv(half, quarter, code_dim, stride=2)
        self.grain = Grain(noise, quarter, code_dim)
        self.to_eighth = StyledConv(quarter, eighth, code_dim, stride=2)
        self.blocks = nn.ModuleList(
            StyleBlock(eighth, code_dim, mixer, state, expand, bend, least_step)
            for _ in range(depth)
        )
        self.keep = StyleAffine(quarter, code_dim)
        self.up_quarter = SmoothUp(eighth, quarter)
        self.at_quarter = _convs(quarter, code_dim, quarter_depth)
        self.up_half = SmoothUp(quarter, half)
        self.at_half = _convs(half, code_dim, half_depth)
        self.to_pixels = nn.Conv2d(half, 12, 3, padding=1)

    def forward(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor | None = None,
        whole: PictureMoments | None = None,
        stroke: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Restyle photos.

        Args:
            photo: sRGB in [0, 1], (B, 3, H, W), H and W at least 1.
            style: Unit style embeddings, (B, E), one for each photo.
            noise: Noise from `draw_noise`; None for that of seed 0.
            whole: Moments of the whole pictures if `photo` is a tile; if empty, it is filled from
                `photo`.
            stroke: Stroke sizes, (B,), 1 as on a style picture of some 256 pixels; trained from
                0.5 to 5 by default. None means 1.
            guidance: Extrapolation of the style code; None for no extrapolation.

        Returns:
            Pictures (B, 3, H, W), sRGB; values may leave [0, 1], see `into_gamut`.

        Raises:
            ValueError: The shapes do not fit each other or the model.
        """
        self._check(photo, style)
        height, width = photo.shape[2:]
        padded, noise = self._padded(photo, noise)
        picture = self.restyle(padded, style, noise, whole, stroke, guidance)
        return picture[:, :, :height, :width].to(photo.dtype)

    def restyle(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: PictureMoments | None = None,
        stroke: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Run `forward` without checks, for photos whose sides are multiples of `STRIDE`."""
        x = self._features(photo, self.encode(style, stroke), guidance, noise, whole)
        return F.pixel_shuffle(self.to_pixels(x), 2) + 0.5

    def encode(self, style: Tensor, stroke: Tensor | None = None) -> Tensor:
        """Compute the code (B, code_dim + anchors) that conditions every layer; see `forward`."""
        size = style.new_zeros(len(style)) if stroke is None else stroke.to(style).log2()
        size = torch.stack([size, size.square() / 4, size.sin()], dim=1)
        scaled = style * self.config.style_dim**0.5  # from unit rows to unit variance
        hidden = self.from_point(scaled) + self.from_stroke(size)
        code = F.layer_norm(hidden + self.to_code(hidden), (self.config.code_dim,))
        if self.config.anchors:
            near = (SHARPNESS * style @ self.anchors.to(style).T).softmax(1)
            # Adam moves what a number sets in proportion to the number. An anchor's is the only one
            # that its look trains, and is trained rarely, so it is larger.
            code = torch.cat([code, ANCHOR_LENGTH * self.config.code_dim**0.5 * near], 1)
        return code

    def noise_power(self, style: Tensor, stroke: Tensor | None = None) -> Tensor:
        """Compute how much noise styles add to the features, as a variance (B,); see `forward`."""
        power: Tensor = self.config.noise_scale**2 * self.grain.power(self.encode(style, stroke))
        return power

    def with_anchors(self, anchors: Tensor) -> Stylizer:
        """Make a network with anchors that computes the same as this one, until it is trained.

        Args:
            anchors: Style embeddings (K, E), such as those of the words for each look.

        Raises:
            ValueError: This network has anchors already.
        """
        if self.config.anchors:
            raise ValueError(f"the network has {self.config.anchors} anchors already")
        wider = Stylizer(**(dict(self.config) | {"anchors": len(anchors)}))
        tensors = wider.state_dict()
        for name, value in self.state_dict().items():
            extra = tensors[name].shape[-1] - value.shape[-1] if value.ndim else 0
            tensors[name] = F.pad(value, (0, extra))
        tensors["anchors"] = F.normalize(anchors, dim=1)
        wider.load_state_dict(tensors)
        return wider

    def middle_code(self, styles: Tensor) -> Tensor:
        """Compute the mean code (code_dim,) of many style embeddings (N, E), for `Guidance`.

        A network trained on many styles gives each a little of the others. StyleGAN's truncation
        (Karras et al., CVPR 2019) pulls codes toward their mean; a factor above 1 does the
        opposite.
        """
        return self.encode(styles)[:, : self.config.code_dim].mean(0)

    def survey(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: TileMoments,
        stroke: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> None:
        """Run `forward` on a tile as far as the first norm whose moments `whole` lacks."""
        self._check(photo, style)
        padded, noise = self._padded(photo, noise)
        with contextlib.suppress(Surveyed):
            self._features(padded, self.encode(style, stroke), guidance, noise, whole)

    @property
    def norms(self) -> int:
        """Number of norms, each of which needs a survey of all tiles."""
        return sum(isinstance(module, StyleNorm) for module in self.modules())

    def draw_noise(self, height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
        """Draw noise for photos of a size; each seed gives another grain.

        Args:
            height: H in pixels.
            width: W in pixels.
            seed: The same seed and size give the same noise on every device.
            batch: Number of different rows; one row serves any number of photos.

        Returns:
            Standard normal noise on the CPU, float32, (batch, noise, H/4, W/4) of the padded
            size.
        """
        stride = STRIDE // self.noise_stride
        size = [-(-side // STRIDE) * stride for side in (height, width)]
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(
            batch, self.config.noise, *size, generator=generator, dtype=torch.float32, device="cpu"
        )

    def _features(
        self,
        photo: Tensor,
        code: Tensor,
        guidance: Guidance | None,
        noise: Tensor,
        whole: PictureMoments | None,
    ) -> Tensor:
        """Compute the last feature maps, (B, C, H/2, W/2)."""
        guided = code if guidance is None else guidance(code)
        x = F.pixel_unshuffle(photo * 2 - 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.to_half(x, guided, whole)
        noise = self.config.noise_scale * noise
        quarter = self.grain(self.to_quarter(x, guided, whole), noise, code)
        x = self.to_eighth(quarter, guided, whole).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x, guided)
        x = self.up_quarter(x.permute(0, 3, 1, 2)) + self.keep(quarter, guided)
        for conv in self.at_quarter:
            x = x + conv(x, guided, whole)
        x = self.up_half(x)
        for conv in self.at_half:
            x = x + conv(x, code, whole)
        features: Tensor = x
        return features

    def _padded(self, photo: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pad the photo to the network's stride; return it and its noise, by default of seed 0."""
        height, width = photo.shape[2:]
        if noise is None:
            noise = self.draw_noise(height, width)
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        return F.pad(photo, padding, mode="replicate"), noise.to(photo.device)

    def _check(self, photo: Tensor, style: Tensor) -> None:
        if photo.ndim != 4 or photo.shape[1] != 3 or 0 in photo.shape:
            raise ValueError(f"photo must be (B, 3, H, W), not {tuple(photo.shape)}")
        wanted = (photo.shape[0], self.config.style_dim)  # len() would fix the batch of an export
        if style.shape != wanted:
            raise ValueError(
                f"style must be {wanted}, one row for each photo, not {tuple(style.shape)}"
            )


def stroke_for_network(stroke: Tensor, side: int | Tensor) -> Tensor:
    """Compute the network's stroke size, so that strokes stay in proportion to the picture.

    Args:
        stroke: Stroke size relative to the default.
        side: Longest side of the network's input, in pixels.
    """
    return (stroke * side / NATIVE_SIDE).clamp(LEAST_STROKE, LARGEST_STROKE)


def _convs(channels: int, code_dim: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(StyledConv(channels, channels, code_dim) for _ in range(depth))
