"""What style somebody asks for, before any model is loaded; no torch here.

Words, pictures and saved styles, each with a weight; words to stay away from; words for what is
shown and must not be taken for style.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from clipmamba.styles.style import Style

    Regions = Sequence[tuple[Any, Any]] | Mapping[Any, Any]

AUTO = "auto"  # as source: what a captioner says
FACE = "face"
FACES = {"keep": 1.0, "soften": 0.5, "style": 0.0}  # how much of a face stays the photo
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?")
_FILE_NAME = re.compile(r"[/\\]|\.\w{1,5}$")
_LIST = re.compile(r"[^:,]*[^:,\s]\s*:\s*[\d.]+\s*(,[^:,]*[^:,\s]\s*:\s*[\d.]+\s*)+")


@dataclass(frozen=True)
class Part:
    """A part of the photo that words name, as "sky"; where it is, each photo says for itself.

    Args:
        words: What is looked for.
        offline: Whether a segmenter is left out of it.
        wanted: Whether somebody should be told where it is not found.

    Raises:
        InputError: No words.
    """

    words: str
    offline: bool = False
    wanted: bool = True

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise InputError("a part of the photo has no name: say what it is, as in 'sky'")

    @classmethod
    def of(cls, area: Any) -> Any:
        """The part that a text names; what is a file's name, or no text, as it is."""
        is_name = not isinstance(area, str) or _FILE_NAME.search(area) or os.path.exists(area)
        return area if is_name else cls(area)


@dataclass(frozen=True)
class StyleRequest:
    """A style as asked for.

    Args:
        prompts: Words and their weights.
        pictures: Pictures that show the style (paths, images, arrays, tensors), and weights.
        styles: `Style` objects or files saved from them, and factors on their own weights.
        avoid: Words that the style is moved away from.
        source: Words for what the photo or the style picture shows; its content is taken out of
            the style. `AUTO` stands for what a captioner says, who has to be asked first.
        templates: Sentences around the words, with {} in their place; none for the usual ones.
        mask: Where the style goes, white in a picture of any kind, or a `Part`; several in a tuple
            are joined; None for the whole picture.
        regions: Styles with masks of their own, later ones over earlier ones. With regions alone
            the rest stays the photo.
        keep: Masks or parts that stay the photo whatever lies over them, and how much, up to 1.

    Raises:
        InputError: Nothing asked for, an empty text, a weight that is not above 0, a template
            without {}, a mask without a style of its own.
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
                    f"a prompt must be words, or a list of them, not {type(text).__name__}"
                )
            if not text.strip():
                raise InputError("the prompt is empty: say a style, for example 'watercolor'")
        for name in ("avoid", "source"):
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not text.strip()):
                raise InputError(f"the text of {name} is empty: leave it out or say a few words")
        for template in self.templates:
            if not isinstance(template, str) or "{}" not in template:
                raise InputError(
                    f"a template needs {{}} where the prompt goes, as in 'a poster of {{}}', "
                    f"not {template!r}"
                )
        for what, weight in (*self.prompts, *self.pictures, *self.styles):
            if not (math.isfinite(weight) and weight > 0):
                shown = repr(what) if isinstance(what, str) else "a style"
                raise InputError(
                    f"the weight of {shown} must be above 0, not {weight:g}; "
                    "to move away from words, say what to avoid"
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
        faces: str = "style",
    ) -> StyleRequest:
        """Read what people write.

        Args:
            prompt: Words, or several; `"ukiyo-e:0.7"` carries a weight. A colon that no number
                follows belongs to the words.
            style_image: A picture, or a list of them.
            style: A `Style`, a file saved from one, or a list of these; a file's name may carry a
                weight too.
            avoid: See the class.
            source: See the class.
            templates: See the class; one, or several.
            mask: See the class; one, or a list. Words that are no file's name are a part.
            regions: Pairs of a mask and the words, or the `Style`, that go there; a mapping too.
            keep: See the class; one mask, or a list.
            faces: "keep" leaves them the photo, "soften" gives them half of the style, "style" is
                what the network does.

        Raises:
            InputError: See the class.
        """
        if faces not in FACES:
            raise InputError(f"faces must be one of {', '.join(FACES)}, not {faces!r}")
        prompts = tuple(split_weight(text) for text in _several(prompt))
        pictures = tuple((picture, 1.0) for picture in _several(style_image))
        styles = tuple(
            split_weight(item) if isinstance(item, str) else (item, 1.0) for item in _several(style)
        )
        named: dict[str, Any] = {"avoid": avoid, "source": source, "templates": templates}
        parts = []
        for area, wanted in regions.items() if isinstance(regions, Mapping) else regions:
            keyword = "prompt" if isinstance(wanted, str) else "style"
            parts.append(cls.parse(**{keyword: wanted}, **named, mask=area))
        kept = [(Part.of(area), 1.0) for area in _several(keep)]
        if FACES[faces]:
            kept.append((Part(FACE, offline=True, wanted=False), FACES[faces]))
        areas = tuple(Part.of(area) for area in _several(mask))
        return cls(
            prompts, pictures, styles, avoid, source, tuple(_several(templates)),
            areas if len(areas) > 1 else next(iter(areas), None), tuple(parts), tuple(kept),
        )  # fmt: skip

    @property
    def layers(self) -> tuple[StyleRequest, ...]:
        """The styles that are laid over one another, each with its mask."""
        return (self, *self.regions) if self._has_style else self.regions

    @property
    def label(self) -> str:
        """A short name for files and reports, for example "ukiyo-e + watercolor"."""
        return " + ".join(layer.own_label for layer in self.layers)

    @property
    def files(self) -> list[tuple[str, str | os.PathLike[str]]]:
        """The files named in it, each with what it is called."""
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
        """The parts that must be found in each photo."""
        return [area for area in self.areas if isinstance(area, Part)]

    @property
    def words(self) -> str:
        """All words for the style, without weights."""
        layers = self.layers
        return ", ".join(dict.fromkeys(t.strip() for layer in layers for t, _ in layer.prompts))

    @property
    def sources(self) -> list[str]:
        """The words for what is shown, each once."""
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


def _several(value: Any) -> list[Any]:
    """None as no item, one item as a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def split_weight(text: Any, default: float = 1.0) -> tuple[Any, float]:
    """The text before a last colon, and the number behind it; without one the default."""
    if isinstance(text, str):
        words, _, number = text.rpartition(":")
        if words.strip() and _NUMBER.fullmatch(number.strip()):
            return words.rstrip(), float(number)
    return text, default


def list_in_one(text: str) -> list[str]:
    """The prompts that somebody wrote as one, "ukiyo-e:0.7,watercolor:0.3"; else none."""
    return [part.strip() for part in text.split(",")] if _LIST.fullmatch(text) else []
