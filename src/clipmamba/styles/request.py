"""Style requests, as given by the user, before any model is loaded; does not import torch.

A request holds prompts, pictures and saved styles, each with a weight; a style to avoid; and a
caption of the content, which must not become part of the style.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from clipmamba.styles.style import Style

    Regions = Sequence[tuple[Any, Any]] | Mapping[Any, Any]

AUTO = "auto"  # as source: ask a captioner
FACE = "face"
FACES = {"keep": 1.0, "soften": 0.5, "style": 0.0}  # how much of a face stays the photo
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?")
_FILE_NAME = re.compile(r"[/\\]|\.\w{1,5}$")
_LIST = re.compile(r"[^:,]*[^:,\s]\s*:\s*[\d.]+\s*(,[^:,]*[^:,\s]\s*:\s*[\d.]+\s*)+")


@dataclass(frozen=True)
class Part:
    """A part of the photo, named by words such as "sky"; it is found in each photo anew.

    Args:
        words: What to look for.
        offline: Whether to find it without the segmenter.
        wanted: Whether to warn if it is not found.

    Raises:
        InputError: No words.
    """

    words: str
    offline: bool = False
    wanted: bool = True

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise InputError("a part of the photo needs a name, such as 'sky'")

    @classmethod
    def of(cls, area: Any) -> Any:
        """Make a part from words; return file names and everything else unchanged.

        Raises:
            InputError: There is no area.
        """
        if area is None:
            raise InputError("a mask is None: give a picture, a file, or words such as 'sky'")
        is_name = not isinstance(area, str) or _FILE_NAME.search(area) or os.path.isfile(area)
        return area if is_name else cls(area)


@dataclass(frozen=True)
class StyleRequest:
    """A requested style.

    Args:
        prompts: Prompts and their weights.
        pictures: Style pictures (paths, images, arrays, tensors) and their weights.
        styles: `Style` objects or files saved from them, and factors on their own weights.
        avoid: A style to move away from, in words.
        source: A caption of what the photo or style picture shows, to be removed from the style.
            `AUTO` is a placeholder for a captioner's answer.
        templates: Templates for the prompts, with {} where they go; empty for the default ones.
        mask: A picture of any kind that is white where the style goes, or a `Part`; several in a
            tuple are joined; None for everywhere.
        regions: Styles with masks of their own; later ones cover earlier ones. With regions only,
            the rest of the photo is kept.
        keep: Masks or parts where the photo is kept, whatever covers them, and how much, up to 1.

    Raises:
        InputError: There is no style, a text is empty, a weight is not above 0, a template lacks
            {}, or a mask has no style of its own.
    """

    prompts: tuple[tuple[str, float], ...] = ()
    pictures: tuple[tuple[Any, float], ...] = ()
    styles: tuple[tuple[Style | str | os.PathLike[str], float], ...] = ()
    avoid: str | None = None
    source: str | None = None
    templates: tuple[str, ...] = ()
    mask: Any = None
    regions: tuple[StyleRequest, ...] = ()
    keep: tuple[tuple[Any, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self._has_style or self.regions):
            raise InputError("no style given: add a prompt or a style image")
        if self.mask is not None and not self._has_style:
            raise InputError("a mask needs a style of its own: add a prompt or a style image")
        for text, _ in self.prompts:
            if not isinstance(text, str):
                raise InputError(
                    f"a prompt must be text or a list of texts, not {type(text).__name__}"
                )
            if not text.strip():
                raise InputError("the prompt is empty: name a style, for example 'watercolor'")
        for style, _ in self.styles:
            if not (isinstance(style, str | os.PathLike) or hasattr(style, "embedding")):
                raise InputError(
                    f"a style must be a Style or a file saved from one, not {type(style).__name__}"
                )
        for name in ("avoid", "source"):
            text = getattr(self, name)
            if text is not None and not isinstance(text, str):
                raise InputError(f"{name} must be text, not {type(text).__name__}")
            if text is not None and not text.strip():
                raise InputError(f"{name} is empty: leave it out or give a few words")
        for template in self.templates:
            if not isinstance(template, str) or "{}" not in template:
                raise InputError(
                    f"a template needs {{}} where the prompt goes, such as 'a poster of {{}}', "
                    f"not {template!r}"
                )
        for what, weight in (*self.prompts, *self.pictures, *self.styles):
            if not (math.isfinite(weight) and weight > 0):
                shown = repr(what) if isinstance(what, str) else "a style"
                raise InputError(
                    f"the weight of {shown} must be above 0, not {weight:g}; "
                    "to move away from a style, use avoid (--avoid)"
                )

    @classmethod
    def parse(
        cls,
        prompt: str | Sequence[str] | None = None,
        style_image: Any = None,
        style: Any = None,
        avoid: str | None = None,
        source: str | None = None,
        templates: str | Sequence[str] | None = None,
        mask: Any = None,
        regions: Regions = (),
        keep: Any = None,
        *,
        faces: str = "style",
    ) -> StyleRequest:
        """Make a request from values as users write them.

        Args:
            prompt: A prompt, or several; `"ukiyo-e:0.7"` carries a weight. A colon without a
                number after it is part of the prompt.
            style_image: A style picture, or a list of them.
            style: A `Style`, a file saved from one, or a list of these; a file name may carry a
                weight too.
            avoid: See the class.
            source: See the class.
            templates: See the class; one or several.
            mask: See the class; one or a list. Words that do not name a file are a part.
            regions: Pairs of a mask or part and a prompt, a `Style` or a list of these, or a
                mapping.
            keep: See the class; one or a list.
            faces: "keep" keeps the photo in faces, "soften" halves the style there, "style" treats
                them like everything else.

        Raises:
            InputError: See the class; or there are templates without words to put into them.

        Examples:
            >>> StyleRequest.parse(["ukiyo-e:0.7", "watercolor:0.3"]).prompts
            (('ukiyo-e', 0.7), ('watercolor', 0.3))
        """
        if faces not in FACES:
            raise InputError(f"faces must be one of {', '.join(FACES)}, not {faces!r}")
        prompts = tuple(split_weight(text) for text in _several(prompt))
        pictures = tuple((picture, 1.0) for picture in _several(style_image))
        styles = tuple(
            split_weight(item) if isinstance(item, str) else (item, 1.0) for item in _several(style)
        )
        forms = tuple(_several(templates))
        parts = []
        for area, wanted in _pairs(regions):
            words = [item for item in _several(wanted) if isinstance(item, str)]
            others = [item for item in _several(wanted) if not isinstance(item, str)]
            part = cls.parse(words, None, others, avoid, source, mask=area)
            parts.append(replace(part, templates=forms))
        kept = [(Part.of(area), 1.0) for area in _several(keep)]
        if FACES[faces]:
            kept.append((Part(FACE, offline=True, wanted=False), FACES[faces]))
        areas = tuple(Part.of(area) for area in _several(mask))
        request = cls(
            prompts, pictures, styles, avoid, source, forms,
            areas if len(areas) > 1 else next(iter(areas), None), tuple(parts), tuple(kept),
        )  # fmt: skip
        if forms and not (request.words or avoid or source):
            raise InputError(
                "a template has no effect without words to put into it: add a prompt, or leave "
                "the template out"
            )
        return request

    @property
    def layers(self) -> tuple[StyleRequest, ...]:
        """The styles to apply in this order, each with its mask."""
        return (self, *self.regions) if self._has_style else self.regions

    @property
    def label(self) -> str:
        """A short name for files and reports, for example "ukiyo-e + watercolor"."""
        return " + ".join(layer.own_label for layer in self.layers)

    @property
    def files(self) -> list[tuple[str, str | os.PathLike[str]]]:
        """The files in the request, each with its kind: "style picture", "style file", "mask"."""
        named: list[tuple[str, Any]] = []
        for layer in self.layers:
            named += [("style picture", picture) for picture, _ in layer.pictures]
            named += [("style file", style) for style, _ in layer.styles]
        named += [("mask", area) for area in self.areas]
        return [(kind, file) for kind, file in named if isinstance(file, str | os.PathLike)]

    @property
    def areas(self) -> list[Any]:
        """All masks and parts."""
        found: list[Any] = []
        for mask in (*(layer.mask for layer in self.layers), *(area for area, _ in self.keep)):
            found += mask if isinstance(mask, tuple) else [mask]
        return [area for area in found if area is not None]

    @property
    def parts(self) -> list[Part]:
        """The parts to find in each photo."""
        return [area for area in self.areas if isinstance(area, Part)]

    @property
    def words(self) -> str:
        """All prompts, joined, without weights."""
        layers = self.layers
        return ", ".join(dict.fromkeys(t.strip() for layer in layers for t, _ in layer.prompts))

    @property
    def sources(self) -> list[str]:
        """The captions in the request, each once."""
        return list(dict.fromkeys(layer.source for layer in self.layers if layer.source))

    @property
    def _has_style(self) -> bool:
        return bool(self.prompts or self.pictures or self.styles)

    @property
    def own_label(self) -> str:
        """The label without the regions."""
        names = [text.strip() for text, _ in self.prompts]
        for what, _ in (*self.pictures, *self.styles):
            is_file = isinstance(what, str | os.PathLike)
            names.append(Path(what).stem if is_file else getattr(what, "label", "") or "picture")
        return " + ".join(names) + (f" without {self.avoid.strip()}" if self.avoid else "")


def _pairs(regions: Any) -> list[tuple[Any, Any]]:
    """List pairs of an area and a prompt or style.

    Raises:
        InputError: There are no such pairs.
    """
    pairs: list[Any]
    if isinstance(regions, Mapping):
        pairs = list(regions.items())
    elif isinstance(regions, str) or not isinstance(regions, Iterable):
        pairs = [regions]
    else:
        pairs = list(regions)
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            given = repr(pair) if isinstance(pair, str | int | float) else type(pair).__name__
            raise InputError(
                f"regions must be pairs such as [('sky', 'mosaic')], or a mapping, not {given}"
            )
        if not _several(pair[0]):
            raise InputError(f"the region for {pair[1]!r} has no area, such as 'sky' or a mask")
    return [(area, wanted) for area, wanted in pairs]


def _several(value: Any) -> list[Any]:
    """Make a list: empty for None, with one item for a single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def split_weight(text: Any, default: float = 1.0) -> tuple[Any, float]:
    """Split "TEXT:NUMBER" into text and number; without a number, return the default."""
    if isinstance(text, str):
        words, _, number = text.rpartition(":")
        if words.strip() and _NUMBER.fullmatch(number.strip()):
            return words.rstrip(), float(number)
    return text, default


def list_in_one(text: str) -> list[str]:
    """Split several prompts written as one, "ukiyo-e:0.7,watercolor:0.3"; empty if it is one."""
    return [part.strip() for part in text.split(",")] if _LIST.fullmatch(text) else []
