"""The stylizer's second design: all mixing at an eighth of the size, nothing at full size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import WeightsError
from clipmamba.files import one_line, write_json
from clipmamba.models.pretrained import CONFIG_NAME, WEIGHTS_NAME
from clipmamba.nn import PictureMoments, StyleBlock
from clipmamba.nn.conditioning import StyleAffine
from clipmamba.nn.stages import Grain, SmoothUp, StyledConv
from clipmamba.weights import check_shapes, read_tensors, write_tensors

NATIVE_SIDE = 512  # longest side in pixels at which the network's stroke size is 1
LEAST_STROKE, LARGEST_STROKE = 0.5, 5.0  # range of stroke sizes in training


@dataclasses.dataclass(frozen=True)
class SecondConfig:
    """The configuration of a `SecondStylizer`, stored beside its weights.

    Attributes:
        style_dim: Width E of the style embeddings, CLIP's embedding width.
        clip: Name of the CLIP model whose space they lie in.
        widths: Channels at 1/2, 1/4 and 1/8 of the size.
        depth: Blocks at 1/8.
        quarter_depth: Convolutions at 1/4, in the decoder.
        half_depth: Convolutions at 1/2, in the decoder.
        state: States per channel of the scan.
        expand: Width of the feed-forward nets in channels.
        code_dim: Width of the style code.
        noise: Channels of noise, the source of dabs and grain.
        mixer: "mamba", "attention" or "conv".
        bend: Whether the style modulates the scan's parameters (mixer "mamba").
        least_step: Minimum step size of the scan; states fade after 1 / least_step positions of
            8 pixels.
    """

    style_dim: int = 256
    clip: str = "mini"
    widths: tuple[int, int, int] = (32, 80, 160)
    depth: int = 5
    quarter_depth: int = 4
    half_depth: int = 1
    state: int = 8
    expand: int = 2
    code_dim: int = 256
    noise: int = 4
    mixer: Literal["mamba", "attention", "conv"] = "mamba"
    bend: bool = True
    least_step: float = 0.1


class Guidance(NamedTuple):
    """Extrapolation of style codes away from their mean; see `SecondStylizer.middle_code`."""

    factor: float
    """Factor on a code's distance from the mean; 1 leaves it as trained."""
    middle: Tensor
    """Mean style code, (code_dim,)."""


class SecondStylizer(nn.Module):
    """Restyles a photo in one pass; linear in its pixels with the default mixer.

    A stem reduces the photo to an eighth of its size, where Mamba blocks mix over the whole
    picture; a decoder draws strokes at a quarter of the size and upsamples to half size, where
    twelve channels are the pixels. One skip, at a quarter, keeps faces and contours, as far as the
    style wants them; finer skips would carry the photo itself through, which makes photorealistic
    filters (Yoo et al., "Photorealistic Style Transfer via Wavelet Transforms", ICCV 2019). Style
    embedding and stroke size condition every layer, and instance normalization before it lets the
    style alone decide how strong each feature is.

    Args:
        config: Sizes and mixer.
    """

    STRIDE: ClassVar[int] = 8
    """Pixels of the photo per position of the deepest feature map."""
    margin: ClassVar[int] = 24
    """Pixels of padding at each edge of a photo, where scans lack context."""
    noise_stride: ClassVar[int] = 4
    """Pixels of the photo per position of the noise."""
    code_bias: ClassVar[str] = "to_code.1.bias"
    """Parameter that shifts the style code of every layer."""

    def __init__(self, config: SecondConfig | None = None):
        super().__init__()
        self.config = config = config or SecondConfig()
        half, quarter, eighth = config.widths
        code = config.code_dim
        self.from_point = nn.Linear(config.style_dim, code)
        self.from_stroke = nn.Linear(3, code)
        self.to_code = nn.Sequential(nn.SiLU(), nn.Linear(code, code))
        self.to_half = StyledConv(12, half, code, normalize=True)
        self.to_quarter = StyledConv(half, quarter, code, stride=2, normalize=True)
        self.grain = Grain(config.noise, quarter, code)
        self.to_eighth = StyledConv(quarter, eighth, code, stride=2, normalize=True)
        self.blocks = nn.ModuleList(
            StyleBlock(
                eighth,
                code,
                config.mixer,
                config.state,
                config.expand,
                config.bend,
                config.least_step,
                by_line=True,
            )
            for _ in range(config.depth)
        )
        self.keep = StyleAffine(quarter, code)
        self.up_quarter = SmoothUp(eighth, quarter)
        self.at_quarter = _stages(quarter, code, config.quarter_depth)
        self.up_half = SmoothUp(quarter, half)
        self.at_half = _stages(half, code, config.half_depth)
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
                0.5 to 5. None means 1.
            guidance: Extrapolation of the style code; None for no extrapolation.

        Returns:
            Pictures (B, 3, H, W), sRGB; values may leave [0, 1], see `into_gamut`.

        Raises:
            ValueError: The shapes do not fit each other or the model.
        """
        self._check(photo, style)
        height, width = photo.shape[2:]
        picture = self.restyle(*self._padded(photo, noise), style, whole, stroke, guidance)
        return picture[:, :, :height, :width].to(photo.dtype)

    def restyle(
        self,
        photo: Tensor,
        noise: Tensor,
        style: Tensor,
        whole: PictureMoments | None = None,
        stroke: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Run `forward` without checks, for photos whose sides are multiples of `STRIDE`."""
        x = self._features(photo, noise, self.encode(style, stroke, guidance), whole)
        return F.pixel_shuffle(self.to_pixels(x), 2) + 0.5

    def encode(
        self, style: Tensor, stroke: Tensor | None = None, guidance: Guidance | None = None
    ) -> Tensor:
        """Compute the code (B, code_dim) that conditions every layer; see `forward`."""
        size = style.new_zeros(len(style)) if stroke is None else stroke.to(style).log2()
        size = torch.stack([size, size.square() / 4, size.sin()], dim=1)
        scaled = style * self.config.style_dim**0.5  # from unit rows to unit variance
        hidden = self.from_point(scaled) + self.from_stroke(size)
        code = F.layer_norm(hidden + self.to_code(hidden), (self.config.code_dim,))
        if guidance is None or guidance.factor == 1:
            return code
        return torch.lerp(guidance.middle.to(code).expand_as(code), code, guidance.factor)

    def middle_code(self, styles: Tensor) -> Tensor:
        """Compute the mean code (code_dim,) of many style embeddings (N, E), for `Guidance`.

        A network trained on many styles gives each a little of the others. StyleGAN's truncation
        (Karras et al., CVPR 2019) pulls codes toward their mean; a factor above 1 does the
        opposite.
        """
        return self.encode(styles).mean(0)

    def survey(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: PictureMoments,
        stroke: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> None:
        """Run `forward` only as far as it needs `whole`; draws nothing."""
        self._check(photo, style)
        padded, noise = self._padded(photo, noise)
        self._features(padded, noise, self.encode(style, stroke, guidance), whole)

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
        stride = self.STRIDE // self.noise_stride
        size = [-(-side // self.STRIDE) * stride for side in (height, width)]
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(
            batch, self.config.noise, *size, generator=generator, dtype=torch.float32, device="cpu"
        )

    def _features(
        self, photo: Tensor, noise: Tensor, code: Tensor, whole: PictureMoments | None
    ) -> Tensor:
        """Compute the last feature maps, (B, half, H/2, W/2)."""
        x = F.pixel_unshuffle(photo * 2 - 1, 2)
        x = self.to_half(x.contiguous(memory_format=torch.channels_last), code, whole)
        quarter = self.grain(self.to_quarter(x, code, whole), noise, code)
        x = self.to_eighth(quarter, code, whole).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x, code)
        x = self.up_quarter(x.permute(0, 3, 1, 2)) + self.keep(quarter, code)
        for stage in self.at_quarter:
            x = x + stage(x, code, whole)
        x = self.up_half(x)
        for stage in self.at_half:
            x = x + stage(x, code, whole)
        return x

    def _padded(self, photo: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pad the photo to the network's stride; return it and its noise, by default of seed 0."""
        height, width = photo.shape[2:]
        if noise is None:
            noise = self.draw_noise(height, width)
        padding = (0, -width % self.STRIDE, 0, -height % self.STRIDE)
        return F.pad(photo, padding, mode="replicate"), noise.to(photo.device)

    def _check(self, photo: Tensor, style: Tensor) -> None:
        if photo.ndim != 4 or photo.shape[1] != 3 or 0 in photo.shape:
            raise ValueError(f"photo must be (B, 3, H, W), not {tuple(photo.shape)}")
        wanted = (photo.shape[0], self.config.style_dim)  # len() would fix the batch of an export
        if style.shape != wanted:
            raise ValueError(
                f"style must be {wanted}, one row for each photo, not {tuple(style.shape)}"
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and the weights, in the parameters' own dtype.

        Args:
            folder: Where to; created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"design": 2, **dataclasses.asdict(self.config)}
        write_json(folder / CONFIG_NAME, config)
        write_tensors(folder / WEIGHTS_NAME, self.state_dict(), {"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a model in float32; every weight must fit, none may be missing.

        Args:
            folder: A folder written by `save_pretrained`.

        Raises:
            WeightsError: Weights are missing, unknown, of the wrong shape, not finite or
                unreadable; or the config has an unknown key.
        """
        folder = Path(folder).expanduser()
        try:
            values = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
            values = {name: value for name, value in values.items() if name != "design"}
            model = cls(SecondConfig(**{**values, "widths": tuple(values["widths"])}))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(
                f"can't load the stylizer from {folder}: {one_line(error)}"
            ) from error
        tensors, _ = read_tensors(folder / WEIGHTS_NAME)
        check_shapes(folder / WEIGHTS_NAME, tensors, model.state_dict())
        model.load_state_dict(tensors)
        return model


@dataclasses.dataclass(frozen=True)
class SecondView:
    """The second design with a fixed stroke size and guidance.

    Attributes:
        stylizer: The network.
        stroke: Stroke size, 1 as on a style picture of some 256 pixels.
        guidance: Extrapolation of its style codes.
    """

    stylizer: SecondStylizer
    stroke: float
    guidance: Guidance

    @property
    def noise_stride(self) -> int:
        """Pixels of the photo per position of the noise."""
        return self.stylizer.noise_stride

    def __call__(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        """Run `SecondStylizer.forward`."""
        result: Tensor = self.stylizer(
            photo, style, noise, whole, self._sizes(photo), self.guidance
        )
        return result

    def survey(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: PictureMoments,
        stem_only: bool = False,
    ) -> None:
        """Run `SecondStylizer.survey`, which always runs the stem only."""
        self.stylizer.survey(photo, style, noise, whole, self._sizes(photo), self.guidance)

    def _sizes(self, photo: Tensor) -> Tensor:
        return torch.full((len(photo),), self.stroke, dtype=torch.float32, device=photo.device)


def stroke_for_network(stroke: Tensor, side: int | Tensor) -> Tensor:
    """Compute the network's stroke size, so that strokes stay in proportion to the picture.

    Args:
        stroke: Stroke size relative to the default.
        side: Longest side of the network's input, in pixels.
    """
    return (stroke * side / NATIVE_SIDE).clamp(LEAST_STROKE, LARGEST_STROKE)


def is_second(folder: str | Path) -> bool:
    """Tell whether a folder's config is of the second design; False if it can't be read."""
    try:
        return bool(json.loads((Path(folder) / CONFIG_NAME).read_text("utf-8"))["design"] == 2)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _stages(channels: int, code_dim: int, depth: int) -> nn.ModuleList:
    stages = (StyledConv(channels, channels, code_dim, normalize=True) for _ in range(depth))
    return nn.ModuleList(stages)
