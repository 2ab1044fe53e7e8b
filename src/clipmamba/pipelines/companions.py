"""Optional models around the pipeline: captioner, painter of style pictures, finisher, segmenter.

Captions and drawn pictures become part of the style request, so that the pipeline itself does not
know these models. They are given by name or as functions; none is imported before it is needed,
and this module does not import torch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.pipelines.parts import PartPlacer, PlacedStyle, check_parts
from clipmamba.styles.request import AUTO, StyleRequest, split_weight

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from clipmamba.pipelines.photo import Photo, Picture
    from clipmamba.regions.find import Segmenter
    from clipmamba.styles.resolve import ResolvedStyle

    Name = str | os.PathLike[str]
    Prepare = Callable[[StyleRequest, Sequence[int | None]], ResolvedStyle]
    Captioner = Callable[[Image.Image], str]
    StylePainter = Callable[[str, int | None], Image.Image]
    Finish = Callable[[Tensor, Tensor, int | None, str], Tensor]


@dataclass(frozen=True)
class Companions:
    """The optional models of one run.

    Attributes:
        captioner: Describes a picture; None without `source="auto"`.
        style_from: Draws a style picture from words and a seed; None lets CLIP read the words.
        finish: Repaints the result, given (photo, picture, seed, words) with tensors
            (B, 3, H, W) in [0, 1]; None leaves the result as it is.
        segmenter: Finds parts by any words; None leaves the few that are found offline.
    """

    captioner: Captioner | None = None
    style_from: StylePainter | None = None
    finish: Finish | None = None
    segmenter: Segmenter | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not callable(value):
                raise InputError(
                    f"{field.name} must be a function, or in stylize() the name of a model, "
                    f"not {type(value).__name__}"
                )

    def load_finisher(self) -> None:
        """Load the finisher: one that can't be used is refused before a photo is restyled.

        Raises:
            WeightsError: It can't be loaded.
        """
        if self.finish is not None:
            from clipmamba.integrations.diffusion import Finisher

            if isinstance(self.finish, Finisher):
                self.finish.load()

    @property
    def read_nothing(self) -> bool:
        """True if neither captioner nor painter changes the style request."""
        return self.captioner is None and self.style_from is None

    @classmethod
    def of(
        cls,
        asked: StyleRequest | ResolvedStyle,
        captioner: Name | Captioner | None = None,
        style_from: Name | StylePainter | None = None,
        finish: Name | Finish | None = None,
        device: str | torch.device = "auto",
        segmenter: Name | Segmenter | None = None,
    ) -> Companions:
        """Make companions from names or functions; no model is loaded yet.

        Args:
            asked: The style, as requested or as prepared.
            captioner: A captioner as a folder, a Hub name or a function; None for the default.
            style_from: A text-to-image model, in the same ways.
            finish: An image-to-image model, in the same ways; "NAME:0.3" carries its strength.
            device: Where named models run.
            segmenter: A segmenter, in the same ways.

        Raises:
            InputError: A package is missing, a part can't be found, or a model has no effect.
            WeightsError: A model's name is invalid.
        """
        auto = isinstance(asked, StyleRequest) and AUTO in asked.sources
        if captioner is not None and not auto:
            raise InputError("a captioner has no effect without source='auto'")
        if style_from is not None and not (isinstance(asked, StyleRequest) and asked.words):
            raise InputError("a style picture is drawn from words: add a prompt")
        if style_from is not None and _only_prompts_have_templates(asked):
            raise InputError(
                "a template has no effect with a model that draws the style picture: leave it out, "
                "and write the whole prompt"
            )
        if captioner is None and auto:
            captioner = _captioner(None, device)
        elif isinstance(captioner, str | os.PathLike):
            captioner = _captioner(os.fspath(captioner), device)
        if isinstance(style_from, str | os.PathLike):
            style_from = _painter(os.fspath(style_from), device)
        if isinstance(finish, str | os.PathLike):
            finish = _finisher(os.fspath(finish), device)
        if segmenter is not None and all(part.offline for part in asked.parts):
            raise InputError(
                "a segmenter has no effect without a part to find, such as mask='boat'"
            )
        check_parts(asked.parts, segmenter)
        if isinstance(segmenter, str | os.PathLike):
            segmenter = _segmenter(os.fspath(segmenter), device)
        return cls(captioner, style_from, finish, segmenter)


@dataclass(frozen=True)
class FoundStyle(PlacedStyle):
    """The style for one photo and one seed.

    Attributes:
        source: The caption of what is shown; None without one.
    """

    source: str | None = None


class StyleFinder:
    """Finds the style for each photo and seed, and does shared work once.

    Args:
        prepare: Resolves a style for some seeds; see `StylizePipeline.prepare`.
        asked: The style, as requested or as prepared.
        seeds: The seeds of the run; [None] takes all seeds of a prepared style.
        companions: The optional models; style pictures are drawn and the finisher is loaded
            immediately.

    Attributes:
        seeds: One seed per variant.

    Raises:
        InputError: A companion fails, or see `StylizePipeline.prepare`.
        WeightsError: A companion can't be loaded.
    """

    def __init__(
        self,
        prepare: Prepare,
        asked: StyleRequest | ResolvedStyle,
        seeds: Sequence[int | None],
        companions: Companions,
    ) -> None:
        self._prepare = prepare
        self._companions = companions
        self.seeds = tuple(seeds)
        check_parts(asked.parts, companions.segmenter)
        companions.load_finisher()
        self._place = PartPlacer(companions.segmenter)
        self._plain: dict[int | None, FoundStyle] | None = None
        if not isinstance(asked, StyleRequest):
            if self.seeds == (None,):
                self.seeds = asked.seeds
            self._plain = {seed: FoundStyle(asked.only(seed)) for seed in self.seeds}
            return
        self._request = request = read_streams(asked)
        if companions.read_nothing:
            plain, source = prepare(request, seeds), self._sources(request)
            self._plain = {seed: FoundStyle(plain.only(seed), source=source) for seed in self.seeds}
        # Keeps the pictures alive, so that their ids are not reused.
        self._captions: dict[int, tuple[Any, str]] = {}
        self._drawn: dict[int | None, StyleRequest] = {}
        if companions.style_from is not None:
            self._drawn = {seed: draw_words(request, companions.style_from, seed) for seed in seeds}
        self._photo: tuple[Any, str] = (None, "")
        self._last: dict[int | None, tuple[list[str | None], ResolvedStyle]] = {}

    def __call__(self, photo: Picture | Photo | None, seed: int | None) -> FoundStyle:
        """Find the style for a photo and a seed.

        Args:
            photo: The photo to restyle; None if there is none, as for `clipmamba embed`. Then a
                captioner needs a style picture to describe.
            seed: One of the run's seeds.

        Raises:
            InputError: A companion fails, or see `StylizePipeline.prepare`.
            WeightsError: A companion can't be loaded.
        """
        if self._plain is not None:
            found = self._plain[seed]
        else:
            request = self._drawn.get(seed, self._request)
            if self._companions.captioner is not None:
                request = fill_source(request, self._caption, lambda: self._caption_of_photo(photo))
            found = FoundStyle(self._resolve(request, seed), source=self._sources(request))
        placed = self._place(found.style, photo)
        return FoundStyle(placed.style, placed.masks, placed.notes, found.source)

    def _resolve(self, request: StyleRequest, seed: int | None) -> ResolvedStyle:
        """Resolve a request, reusing the seed's last style if the captions are the same."""
        sources = [layer.source for layer in request.layers]
        if seed not in self._last or self._last[seed][0] != sources:
            asked = self._request  # drawn pictures have neither name nor words
            style = self._prepare(request, [seed])
            style = replace(style, label=asked.label, words=asked.words)
            self._last[seed] = (sources, style)
        return self._last[seed][1]

    @staticmethod
    def _sources(request: StyleRequest) -> str | None:
        return "; ".join(request.sources) or None

    def _caption(self, picture: Picture | Photo) -> str:
        key = id(picture)
        if key not in self._captions:
            self._captions[key] = (picture, self._say(picture))
        return self._captions[key][1]

    def _caption_of_photo(self, photo: Picture | Photo | None) -> str:
        if photo is None:
            raise InputError("source 'auto' needs a style picture to describe")
        if self._photo[0] is not photo:  # only the last photo's caption is cached
            self._photo = (photo, self._say(photo))
        return self._photo[1]

    def _say(self, picture: Picture | Photo) -> str:
        import numpy as np

        from clipmamba.io import from_srgb
        from clipmamba.io.convert import tensor_to_array
        from clipmamba.pipelines.photo import Photo

        tensor = Photo.open(picture).tensor
        if len(tensor) > 1:
            raise InputError("source 'auto' describes single pictures: give a list, not a batch")
        assert self._companions.captioner is not None
        said = self._companions.captioner(from_srgb(tensor_to_array(tensor, np.dtype(np.float32))))
        if not isinstance(said, str) or not said.strip():
            raise InputError(
                f"the captioner must describe the picture in words, not return {said!r}"
            )
        return said


def read_streams(request: StyleRequest) -> StyleRequest:
    """Read the open files among a request's pictures and masks: some can be read only once."""
    from clipmamba.pipelines.photo import Mask, Photo

    def read(source: Any, kind: Callable[[Any], Any]) -> Any:
        return kind(source) if hasattr(source, "read") else source

    def read_mask(mask: Any) -> Any:
        if isinstance(mask, tuple):
            return tuple(map(read_mask, mask))
        return read(mask, Mask)

    return replace(
        request,
        pictures=tuple((read(picture, Photo.open), weight) for picture, weight in request.pictures),
        mask=read_mask(request.mask),
        regions=tuple(map(read_streams, request.regions)),
        keep=tuple((read_mask(area), amount) for area, amount in request.keep),
    )


def _only_prompts_have_templates(asked: StyleRequest | ResolvedStyle) -> bool:
    """True if templates are given, but neither a style to avoid nor a source to put into them."""
    layers = asked.layers if isinstance(asked, StyleRequest) else ()
    return any(layer.templates for layer in layers) and not any(
        layer.avoid or layer.source for layer in layers
    )


def draw_words(request: StyleRequest, painter: StylePainter, seed: int | None) -> StyleRequest:
    """Replace a request's words by drawn pictures of the same weights."""
    drawn = tuple((painter(text.strip(), seed), weight) for text, weight in request.prompts)
    return replace(
        request,
        prompts=(),
        pictures=(*request.pictures, *drawn),
        regions=tuple(draw_words(region, painter, seed) for region in request.regions),
    )


def fill_source(
    request: StyleRequest, caption: Callable[[Any], str], photo: Callable[[], str]
) -> StyleRequest:
    """Replace `AUTO` in a request by captions.

    Args:
        request: The request.
        caption: Describes a style picture.
        photo: Describes the photo; called if there is no style picture.
    """
    regions = tuple(fill_source(region, caption, photo) for region in request.regions)
    source = request.source
    if source == AUTO and not (request.prompts or request.pictures or request.styles):
        source = None  # regions only
    if source == AUTO:
        said = list(dict.fromkeys(caption(picture) for picture, _ in request.pictures))
        source = " and ".join(said) or photo()
    return replace(request, source=source, regions=regions)


# A model stays loaded for the next call, like the pipeline itself.


@functools.lru_cache(maxsize=1)
def _captioner(name: str | None, device: str | torch.device) -> Captioner:
    from clipmamba.integrations.captions import DEFAULT_CAPTIONER, Captioner

    return Captioner(name or DEFAULT_CAPTIONER, device)


@functools.lru_cache(maxsize=1)
def _painter(name: str, device: str | torch.device) -> StylePainter:
    from clipmamba.integrations.diffusion import StylePainter

    return StylePainter(name, device)


@functools.lru_cache(maxsize=1)
def _finisher(text: str, device: str | torch.device) -> Finish:
    from clipmamba.integrations.diffusion import FINISH_STRENGTH, Finisher

    name, strength = split_weight(text, FINISH_STRENGTH)
    return Finisher(name, strength, device)


@functools.lru_cache(maxsize=1)
def _segmenter(name: str, device: str | torch.device) -> Segmenter:
    from clipmamba.integrations.segmenter import Segmenter

    return Segmenter(name, device)
