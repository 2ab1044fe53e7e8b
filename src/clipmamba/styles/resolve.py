"""Resolve style requests to points in CLIP's space, once per run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.styles.request import AUTO, Part, StyleRequest
from clipmamba.styles.style import Style, embed_style, embed_words

if TYPE_CHECKING:
    from clipmamba.clip import Clip
    from clipmamba.styles.prior import StylePrior

logger = logging.getLogger("clipmamba")

UNFAMILIAR = 0.6  # familiarity below which words are hardly known
PUSH = 0.3  # how far `avoid` pushes beyond the shared component; unit points are about 1 apart


@dataclass(frozen=True, eq=False)
class StyleLayer:
    """A style and its mask.

    Attributes:
        styles: The style's variant for each seed.
        mask: A mask of any kind, white where the style goes, or a `Part`; several in a tuple are
            joined; None for everywhere.
        request: What was asked for, for another CLIP model to read; None for a mix of styles.
    """

    styles: Mapping[int | None, Style]
    mask: Any = None
    request: StyleRequest | None = None


@dataclass(frozen=True, eq=False)
class ResolvedStyle:
    """A style, resolved to points and masks, as a pipeline needs it.

    `0.7 * a + 0.3 * b` mixes two of them, as for `Style`.

    Attributes:
        layers: Styles with masks, applied in this order.
        seeds: The seeds of the variants in each layer.
        label: A short name for files and reports.
        familiarity: Cosine similarity of the least familiar prompt to the nearest text that the
            prior knows; None without prompts or known texts.
        words: All prompts, joined, without weights.
        keep: Masks where the photo is kept, whatever covers them, and how much, up to 1.
    """

    layers: tuple[StyleLayer, ...]
    seeds: tuple[int | None, ...] = (None,)
    label: str = ""
    familiarity: float | None = None
    words: str = ""
    keep: tuple[tuple[Any, float], ...] = ()

    def warn_if_unfamiliar(self) -> None:
        """Log a warning if the words are far from every style that the model knows."""
        if self.familiarity is not None and self.familiarity < UNFAMILIAR:
            logger.warning(
                "%r is far from every style that the model knows (familiarity %.2f of 1): the "
                "result may show little of it; 'clipmamba styles' lists the known styles",
                self.words,
                self.familiarity,
            )

    @property
    def parts(self) -> list[Part]:
        """The parts to find in a photo before it is restyled."""
        masks = [layer.mask for layer in self.layers] + [mask for mask, _ in self.keep]
        areas = [area for mask in masks for area in (mask if isinstance(mask, tuple) else (mask,))]
        return [area for area in areas if isinstance(area, Part)]

    def with_masks(self, change: Callable[[Any], Any]) -> ResolvedStyle:
        """Replace every mask by what a function returns for it; tuples stay tuples."""

        def changed(mask: Any) -> Any:
            if isinstance(mask, tuple):
                return tuple(change(area) for area in mask)
            return None if mask is None else change(mask)

        layers = tuple(replace(layer, mask=changed(layer.mask)) for layer in self.layers)
        keep = tuple((changed(mask), amount) for mask, amount in self.keep)
        return replace(self, layers=layers, keep=keep)

    def only(self, seed: int | None) -> ResolvedStyle:
        """Select one variant.

        Raises:
            InputError: The style was not resolved for this seed.
        """
        if seed not in self.seeds:
            raise InputError(
                f"the style was prepared for the seeds {list(self.seeds)}, not for {seed}; "
                "prepare it with that seed"
            )
        layers = (replace(layer, styles={seed: layer.styles[seed]}) for layer in self.layers)
        return replace(self, layers=tuple(layers), seeds=(seed,))

    def __mul__(self, factor: float) -> ResolvedStyle:
        """Scale the weight in a mix."""
        layers = tuple(
            replace(layer, styles={seed: factor * style for seed, style in layer.styles.items()})
            for layer in self.layers
        )
        return replace(self, layers=layers)

    __rmul__ = __mul__

    def __add__(self, other: ResolvedStyle) -> ResolvedStyle:
        """Mix two styles by their weights.

        Raises:
            InputError: The seeds differ, or one has several layers or a mask.
        """
        if not isinstance(other, ResolvedStyle):
            return NotImplemented
        pair = (self, other)
        if self.seeds != other.seeds or any(
            len(style.layers) != 1 or style.layers[0].mask is not None or style.keep
            for style in pair
        ):
            raise InputError("only styles of the whole picture, with the same seeds, can be mixed")
        first, second = (style.layers[0].styles for style in pair)
        mixed = {seed: first[seed] + second[seed] for seed in self.seeds}
        known = [style.familiarity for style in pair if style.familiarity is not None]
        label = f"{self.label} + {other.label}"
        words = ", ".join(style.words for style in pair if style.words)
        familiarity = min(known, default=None)
        return ResolvedStyle((StyleLayer(mixed),), self.seeds, label, familiarity, words)


def resolve_style(
    request: StyleRequest,
    clip: Clip,
    prior: StylePrior | None = None,
    seeds: Sequence[int | None] = (None,),
    to_tensor: Callable[[Any], Tensor] | None = None,
) -> ResolvedStyle:
    """Resolve a request to points; every text and every picture is encoded once.

    `avoid` removes the component that the style shares with the avoided one, relative to a plain
    photo, and goes a little further. `source` removes the component along the direction from
    "photo" to "photo of" the source.

    Args:
        request: The requested style.
        clip: Embeds words and pictures.
        prior: Maps text embeddings to image embeddings.
        seeds: Seeds of the prompts' variants, drawn by the prior; None is the default variant.
        to_tensor: Converts a picture to (B, 3, H, W) in [0, 1]; needed if there are pictures.

    Returns:
        The style; differentiable in style pictures that are tensors.

    Raises:
        InputError: The styles cancel, or belong to another CLIP model.
        WeightsError: A saved style can't be read.
    """
    maker = _Maker(clip, prior, to_tensor)
    layers = []
    for part in request.layers:
        made = maker.ingredients(part)
        layers.append(
            StyleLayer({seed: maker.style(part, made, seed) for seed in seeds}, part.mask, part)
        )
    return ResolvedStyle(
        tuple(layers), tuple(seeds), request.label, maker.familiarity, request.words, request.keep
    )


class _Maker:
    """Makes the styles of a request; caches text embeddings."""

    def __init__(
        self,
        clip: Clip,
        prior: StylePrior | None,
        to_tensor: Callable[[Any], Tensor] | None,
    ):
        if prior is not None:
            prior.check_clip(clip)
        self.clip, self.prior, self.to_tensor = clip, prior, to_tensor
        self.familiarity: float | None = None
        self._embeddings: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def prompt(self, text: str, templates: tuple[str, ...], seed: int | None) -> Style:
        """Make a style from a prompt, in the variant of a seed."""
        if self.prior is None and seed is not None:
            raise InputError("a seed draws a variant from a prior; give prior=")
        return embed_style(text, self.clip, self.prior, self._embed(text, templates), seed)

    def words(self, text: str, templates: tuple[str, ...]) -> Style:
        """Find where words lie that are no style to paint in."""
        embedding = self._embed(text, templates)
        point = embedding if self.prior is None else self.prior(embedding)
        return Style(point[0], text.strip(), self.clip.name)

    def _embed(self, text: str, templates: tuple[str, ...]) -> Tensor:
        key = (text, templates)
        if key not in self._embeddings:
            self._embeddings[key] = embed_words(self.clip, text, templates or None)
        return self._embeddings[key]

    def ingredients(self, request: StyleRequest) -> list[Style]:
        """Make weighted styles from a request's pictures and saved styles."""
        styles = []
        for picture, weight in request.pictures:
            if self.to_tensor is None:
                raise InputError("style pictures need to_tensor=")
            styles.append(weight * Style.image(self.to_tensor(picture), self.clip))
        for style, weight in request.styles:
            styles.append(weight * (style if isinstance(style, Style) else Style.load(Path(style))))
        return styles

    def style(self, request: StyleRequest, others: list[Style], seed: int | None) -> Style:
        """Mix a request's prompts with its other styles."""
        templates = request.templates
        parts = [weight * self.prompt(text, templates, seed) for text, weight in request.prompts]
        parts += others
        self._measure(request)
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed + part
        if len(mixed.embedding) != self.clip.embed_dim or mixed.clip not in ("", self.clip.name):
            raise InputError(
                f"the style {mixed.label!r} belongs to CLIP {mixed.clip!r}, not to "
                f"{self.clip.name!r}; make it again with this model"
            )
        label, vector = request.own_label, mixed.embedding
        if request.avoid is not None or request.source is not None:
            plain = self.words("photo", templates).embedding
            vector = vector.to(plain.device)
            if request.source == AUTO:
                raise InputError(
                    "source 'auto' needs a captioner: use stylize() or 'clipmamba stylize', or "
                    "describe the content in words"
                )
            if request.source is not None:
                content = self.words(f"photo of {request.source}", templates).embedding - plain
                vector = _without(vector, plain, content, push=0.0)
            if request.avoid is not None:
                avoided = self.words(request.avoid, templates).embedding - plain
                vector = _without(vector, plain, avoided, push=PUSH)
        return Style(vector, label, self.clip.name, 1.0, *mixed.traits)

    def _measure(self, request: StyleRequest) -> None:
        if self.prior is None or not self.prior.known:
            return
        for text, _ in request.prompts:
            near = self.prior.familiarity(self._embeddings[text, request.templates])
            self.familiarity = min(near, 1.0 if self.familiarity is None else self.familiarity)


def _without(vector: Tensor, plain: Tensor, direction: Tensor, push: float) -> Tensor:
    length = torch.linalg.vector_norm(direction)
    if length < 1e-6:  # the words mean a plain photo: nothing to remove
        return vector
    direction = direction / length
    shared = ((vector - plain) @ direction).clamp(min=0)
    return vector - (shared + push) * direction
