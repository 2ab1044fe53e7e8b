"""`Style`: a point on CLIP's unit sphere, made from words, from a picture, or by mixing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError, WeightsError
from clipmamba.io import read_picture, to_srgb
from clipmamba.io.convert import array_to_tensor, luma
from clipmamba.styles.known import lookup_style
from clipmamba.styles.style_file import STYLE_FORMAT
from clipmamba.styles.traits import PIXELATED, Traits, find_traits
from clipmamba.weights import read_tensors, write_tensors

if TYPE_CHECKING:
    from clipmamba.clip import Clip
    from clipmamba.styles.prior import StylePrior


@dataclass(frozen=True, eq=False)
class Style:
    """A unit point and its weight in a mix.

    `0.7 * Style.text("ukiyo-e") + 0.3 * Style.image(picture)` adds the weighted points. The sum's
    direction is the mixed style and its length the new weight, so that mixing is associative.

    Args:
        embedding: Any nonzero finite vector (E,); stored as a float32 unit vector.
        label: A short name.
        clip: Name of the CLIP model whose space it lies in; "" if unknown.
        weight: Weight in a mix, at least 0. It has no effect on a style used alone.
        photo_color: Share of the photo's colors that pictures in this style keep by default, 0 to
            1. Words for a technique, such as watercolor, have one, for it has no palette of its
            own; a mix has the weighted mean of the styles that are not subtracted.
        pixelated: How much its pictures consist of square blocks, 0 to 1, as in pixel art; they do
            from 0.5 on. A mix has the weighted mean, too.
        trait_weight: Weight of `photo_color` and `pixelated` in a mix: of a mix, the sum of its
            styles' weights, which is more than the length of theirs. None for `weight`.

    Raises:
        InputError: The embedding is not a nonzero finite vector, a weight is not finite and at
            least 0, or `photo_color` or `pixelated` is not from 0 to 1.

    Examples:
        >>> mixed = 0.7 * Style.text("ukiyo-e") + 0.3 * Style.text("watercolor")
        >>> mixed.label, tuple(mixed.embedding.shape)
        ('0.7 ukiyo-e + 0.3 watercolor', (256,))
    """

    embedding: Tensor
    label: str = ""
    clip: str = ""
    weight: float = 1.0
    photo_color: float = 0.0
    pixelated: float = 0.0
    trait_weight: float | None = None

    def __post_init__(self) -> None:
        vector = self.embedding.float()
        length = float(vector.detach().norm())
        if vector.ndim != 1 or not math.isfinite(length) or length < 1e-6:
            raise InputError(
                f"a style needs a nonzero finite vector (E,), not {tuple(vector.shape)} of length "
                f"{length:.3g}"
            )
        for weight in (self.weight, self._trait_weight):
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"a style's weight must be at least 0, not {weight}")
        for name, share in self.traits._asdict().items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} must be from 0 to 1, not {share}")
        object.__setattr__(self, "embedding", vector / length)

    @classmethod
    def text(
        cls,
        prompt: str,
        clip: Clip | None = None,
        prior: StylePrior | None = None,
        seed: int | None = None,
        templates: Sequence[str] | None = None,
    ) -> Style:
        """Make a style from words.

        Args:
            prompt: A style in words; a known style ("ukiyoe") is read as its `KnownStyle.prompt`.
            clip: The CLIP model. None takes the shipped `mini` and its prior.
            prior: Maps the text embedding to where images of it lie; None with an explicit `clip`
                uses the text embedding itself.
            seed: Selects a variant, drawn by the prior; None for the mean.
            templates: Templates for the prompt, with {} where it goes; None for
                `clipmamba.clip.TEMPLATES`.

        Raises:
            InputError: The prompt is empty, or a seed is given without a prior.
            WeightsError: The default weights are missing, or the prior belongs to another CLIP
                model.
        """
        from clipmamba.clip import Clip
        from clipmamba.styles.prior import StylePrior

        if clip is None:
            clip = Clip.from_pretrained()
            prior = prior or StylePrior.load(clip=clip)
        if prior is not None:
            prior.check_clip(clip)
        elif seed is not None:
            raise InputError("a seed draws a variant from a prior; give prior=")
        return embed_style(prompt, clip, prior, embed_words(clip, prompt, templates), seed)

    @classmethod
    def image(
        cls,
        image: str | os.PathLike[str] | Image.Image | Tensor,
        clip: Clip | None = None,
        label: str = "picture",
    ) -> Style:
        """Make a style from a picture, as the mean over its views (`clipmamba.clip.VIEWS`).

        Black bars at a file's or PIL image's edges are cropped first. Differentiable in a tensor's
        pixels.

        Args:
            image: A path, a PIL image, or a float tensor (3, H, W) or (B, 3, H, W) in [0, 1]; B
                pictures are averaged.
            clip: The CLIP model; None takes the shipped `mini`.
            label: A short name.

        Raises:
            InputError: The picture can't be read, or the tensor has another dtype or shape.
            WeightsError: The default weights are missing.
        """
        from clipmamba.clip import Clip, encode_picture
        from clipmamba.io.bars import inside_bars

        if not isinstance(image, Tensor):
            pixels, _ = to_srgb(read_picture(image))
            image = array_to_tensor(pixels)
            gray = 255 * luma(image)[0, 0]
            left, top, right, bottom = inside_bars(gray.numpy())
            image = image[..., top:bottom, left:right]
        if clip is None:
            clip = Clip.from_pretrained()
        rows = encode_picture(clip, image[None] if image.ndim == 3 else image)
        return cls(rows.mean(0), label, clip.name)

    def __mul__(self, factor: float) -> Style:
        """Scale the weight; a negative factor points away from the style."""
        if not math.isfinite(factor):
            raise InputError(f"a style's weight must be a finite number, not {factor}")
        sign = math.copysign(1.0, factor)
        label = (
            f"{factor:g} {self.label}" if " + " not in self.label else f"{factor:g} ({self.label})"
        )
        weight, trait_weight = abs(factor) * self.weight, max(0.0, factor) * self._trait_weight
        vector = sign * self.embedding
        traits = self.traits if factor > 0 else Traits()
        return Style(vector, label, self.clip, weight, *traits, trait_weight)

    __rmul__ = __mul__

    def __add__(self, other: Style) -> Style:
        """Mix two styles by their weights.

        Raises:
            InputError: The two belong to different CLIP models, or they cancel.
        """
        if not isinstance(other, Style):
            return NotImplemented
        if self.embedding.shape != other.embedding.shape or (
            self.clip and other.clip and self.clip != other.clip
        ):
            raise InputError(
                f"{self.label!r} and {other.label!r} belong to different CLIP models: "
                f"{self.clip!r} ({len(self.embedding)}) and {other.clip!r} ({len(other.embedding)})"
            )
        total = self.weight * self.embedding + other.weight * other.embedding.to(
            self.embedding.device
        )
        length = float(total.detach().norm())
        if length < 1e-6:
            raise InputError(f"{self.label!r} and {other.label!r} cancel; change their weights")
        label, clip = f"{self.label} + {other.label}", self.clip or other.clip
        own, others = self._trait_weight, other._trait_weight
        pairs = zip(self.traits, other.traits, strict=True)
        total_weight = own + others or 1.0
        traits = Traits(*((own * x + others * y) / total_weight for x, y in pairs))
        return Style(total, label, clip, length, *traits, own + others)

    @property
    def traits(self) -> Traits:
        """What the style has beside its point."""
        return Traits(self.photo_color, self.pixelated)

    @property
    def has_blocks(self) -> bool:
        """True if pictures in this style consist of square blocks."""
        return round(self.pixelated, 6) >= PIXELATED  # sums of a mix are inexact

    @property
    def _trait_weight(self) -> float:
        return self.weight if self.trait_weight is None else self.trait_weight

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the embedding; the rest is its metadata."""
        write_tensors(
            Path(path),
            {"embedding": self.embedding},
            {
                "format": STYLE_FORMAT,
                "label": self.label,
                "clip": self.clip,
                "weight": repr(self.weight),
                **{name: repr(share) for name, share in self.traits._asdict().items()},
                "trait_weight": repr(self._trait_weight),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Style:
        """Read a file written by `save`.

        Raises:
            WeightsError: The file is missing, damaged or not a style.
        """
        tensors, metadata = read_tensors(Path(path), {"embedding"})
        if metadata.get("format") != STYLE_FORMAT:
            raise WeightsError(f"{path} is not a style saved by clipmamba")
        try:
            return cls(
                tensors["embedding"],
                metadata["label"],
                metadata["clip"],
                float(metadata["weight"]),
                *Traits(*(float(metadata.get(name, 0)) for name in Traits._fields)),
                float(metadata.get("trait_weight", metadata["weight"])),
            )
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{path} is an incomplete style: {error}") from error


def embed_style(
    words: str, clip: Clip, prior: StylePrior | None, embedding: Tensor, seed: int | None = None
) -> Style:
    """Make a style of words from their text embedding (1, E), in the variant of a seed."""
    traits = find_traits(words, embedding, clip, prior)
    point = embedding if prior is None else prior(embedding, seed)
    return Style(point[0], words.strip(), clip.name, 1.0, *traits)


def embed_words(clip: Clip, words: str, templates: Sequence[str] | None = None) -> Tensor:
    """Embed a style in words, as (1, E); a known style is read as its `prompt`."""
    from clipmamba.clip import TEMPLATES, encode_prompt

    known = lookup_style(words)
    return encode_prompt(clip, known.prompt if known else words, templates or TEMPLATES)
