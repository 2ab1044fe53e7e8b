"""Models beside the line from photo to picture: a captioner, a painter, a finisher, a segmenter.

What they say or draw becomes part of the request, so that the line itself knows nothing of them.
They are named by words or given as functions; none is imported before it is asked for, and no
torch is loaded here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.pipelines.parts import PartPlacer, PlacedStyle
from clipmamba.regions.words import check_words
from clipmamba.styles.request import AUTO, StyleRequest, split_weight

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from clipmamba.pipelines.photo import Picture
    from clipmamba.pipelines.pipeline import StylizePipeline
    from clipmamba.regions.find import Segmenter
    from clipmamba.styles.resolve import ResolvedStyle

    Name = str | os.PathLike[str]
    Captioner = Callable[[Image.Image], str]
    StylePainter = Callable[[str, int | None], Image.Image]
    Finish = Callable[[Tensor, Tensor, int | None, str], Tensor]


@dataclass(frozen=True)
class Companions:
    """Who stands beside the line in one run.

    Attributes:
        captioner: Says what a picture shows; None without `source="auto"`.
        style_from: Draws the style picture of words and a seed; None: CLIP reads the words.
        finish: Repaints (photo, picture, seed, words), tensors (B, 3, H, W) in [0, 1]; None:
            the result stays as it is.
        segmenter: Finds the parts that words name; None: only those that are found offline.
    """

    captioner: Captioner | None = None
    style_from: StylePainter | None = None
    finish: Finish | None = None
    segmenter: Segmenter | None = None

    @property
    def read_nothing(self) -> bool:
        """Whether the style is read as it was asked for, the same for every photo."""
        return self.captioner is None and self.style_from is None

    @classmethod
    def of(
        cls,
        request: StyleRequest | None,
        captioner: Name | Captioner | None = None,
        style_from: Name | StylePainter | None = None,
        finish: Name | Finish | None = None,
        device: str | torch.device = "auto",
        segmenter: Name | Segmenter | None = None,
    ) -> Companions:
        """Take what somebody named; no model is loaded yet.

        Args:
            request: The style that is asked for; None where it is prepared already.
            captioner: A folder, a hub's name or a function; None for the usual one.
            style_from: The same of a text-to-image model.
            finish: The same of an image-to-image model; "NAME:0.3" carries its strength.
            device: Where named models run.
            segmenter: The same of a model for the parts that words name.

        Raises:
            InputError: A package is missing, nothing finds a part, or what is named has nothing
                to do.
            WeightsError: There can't be a model of that name.
        """
        asked = request is not None and AUTO in request.sources
        if captioner is not None and not asked:
            raise InputError("a captioner does nothing without source='auto'")
        if style_from is not None and not (request is not None and request.words):
            raise InputError("a style picture is drawn from words: add a prompt")
        if captioner is None and asked:
            captioner = _captioner(None, device)
        elif isinstance(captioner, str | os.PathLike):
            captioner = _captioner(os.fspath(captioner), device)
        if isinstance(style_from, str | os.PathLike):
            style_from = _painter(os.fspath(style_from), device)
        if isinstance(finish, str | os.PathLike):
            finish = _finisher(os.fspath(finish), device)
        parts = [] if request is None else request.parts
        if segmenter is not None and not any(not part.offline for part in parts):
            raise InputError("a segmenter finds parts by words: name one, as in mask='boat'")
        check_words([part.words for part in parts if part.offline], segmenter=False)
        named = [part.words for part in parts if not part.offline]
        check_words(named, segmenter=segmenter is not None)
        if isinstance(segmenter, str | os.PathLike):
            segmenter = _segmenter(os.fspath(segmenter), device)
        return cls(captioner, style_from, finish, segmenter)


@dataclass(frozen=True)
class FoundStyle(PlacedStyle):
    """A style for one photo and one seed.

    Attributes:
        source: The words for what is shown; None without any.
    """

    source: str | None = None


class StyleFinder:
    """Finds the style for each photo and seed; what is the same for several is done once.

    Args:
        pipeline: Whose CLIP reads it.
        request: What is asked for.
        seeds: Those of the run.
        companions: Who helps; style pictures are drawn at once.

    Raises:
        InputError: A companion refuses, or see `StylizePipeline.prepare`.
        WeightsError: A companion can't be loaded.
    """

    def __init__(
        self,
        pipeline: StylizePipeline,
        request: StyleRequest,
        seeds: Sequence[int | None],
        companions: Companions,
    ) -> None:
        self._pipeline = pipeline
        self._companions = companions
        self._request = request
        self._place = PartPlacer(companions.segmenter)
        self._plain: ResolvedStyle | None = None
        if companions.read_nothing:
            self._plain = pipeline.prepare(request, seeds)
        # With the pictures themselves, so that no other one can take an id over.
        self._captions: dict[int, tuple[Any, str]] = {}
        self._drawn: dict[int | None, StyleRequest] = {}
        if companions.style_from is not None:
            self._drawn = {seed: draw_words(request, companions.style_from, seed) for seed in seeds}
        self._photo: tuple[Any, str] = (None, "")
        self._last: dict[int | None, tuple[list[str | None], ResolvedStyle]] = {}

    def __call__(self, photo: Picture | None, seed: int | None) -> FoundStyle:
        """Find the style for a photo and a seed.

        Args:
            photo: What is restyled; None where a style is wanted for its own sake, and a style
                picture is there for a captioner to describe.
            seed: One of the run's.

        Raises:
            InputError: A companion refuses, or see `StylizePipeline.prepare`.
            WeightsError: A companion can't be loaded.
        """
        request, style = self._request, self._plain
        if style is None:
            request = self._drawn.get(seed, request)
            if self._companions.captioner is not None:
                request = fill_source(request, self._caption, lambda: self._caption_of_photo(photo))
            style = self._prepare(request, seed)
        placed = self._place(style.only(seed), photo)
        return FoundStyle(placed.style, placed.masks, placed.missing, self._sources(request))

    def _prepare(self, request: StyleRequest, seed: int | None) -> ResolvedStyle:
        """The style of a filled request, which differs from the seed's last in its sources only."""
        sources = [layer.source for layer in request.layers]
        if seed not in self._last or self._last[seed][0] != sources:
            asked = self._request  # drawn pictures have neither name nor words
            style = self._pipeline.prepare(request, [seed])
            style = replace(style, label=asked.label, words=asked.words)
            self._last[seed] = (sources, style)
        return self._last[seed][1]

    @staticmethod
    def _sources(request: StyleRequest) -> str | None:
        return "; ".join(request.sources) or None

    def _caption(self, picture: Picture) -> str:
        key = id(picture)
        if key not in self._captions:
            self._captions[key] = (picture, self._say(picture))
        return self._captions[key][1]

    def _caption_of_photo(self, photo: Picture | None) -> str:
        if photo is None:
            raise InputError("source 'auto' needs a style picture to describe")
        if self._photo[0] is not photo:  # of a folder's photos only the last is kept
            self._photo = (photo, self._say(photo))
        return self._photo[1]

    def _say(self, picture: Picture) -> str:
        import numpy as np

        from clipmamba.io import from_srgb
        from clipmamba.io.convert import tensor_to_array
        from clipmamba.pipelines.photo import Photo

        tensor = Photo.open(picture).tensor
        if len(tensor) > 1:
            raise InputError("source 'auto' describes one picture: give a list, not a batch")
        assert self._companions.captioner is not None
        return self._companions.captioner(from_srgb(tensor_to_array(tensor, np.dtype(np.float32))))


def draw_words(request: StyleRequest, painter: StylePainter, seed: int | None) -> StyleRequest:
    """The same style with drawn pictures in the place of its words, with their weights."""
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
    """The same style with words for what is shown in the place of `AUTO`.

    Args:
        request: What is asked for.
        caption: Says what a style picture shows.
        photo: Says what the photo shows; asked where there is no style picture.
    """
    regions = tuple(fill_source(region, caption, photo) for region in request.regions)
    source = request.source
    if source == AUTO and not (request.prompts or request.pictures or request.styles):
        source = None  # regions alone
    if source == AUTO:
        said = list(dict.fromkeys(caption(picture) for picture, _ in request.pictures))
        source = " and ".join(said) or photo()
    return replace(request, source=source, regions=regions)


# A model stays loaded for the next call, as the pipeline itself does.


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
