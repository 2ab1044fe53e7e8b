"""Style requests, as given by the user, before any model is loaded; does not import torch.

A request holds prompts, pictures and saved styles, each with a weight; a style to avoid; and a
caption of the content, which must not become part of the style.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from clipmamba.styles.resolve import ResolvedStyle
    from clipmamba.styles.style import Style

AUTO = "auto"  # as source: ask a captioner
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?")
_LIST = re.compile(r"[^:,]*[^:,\s]\s*:\s*[\d.]+\s*(,[^:,]*[^:,\s]\s*:\s*[\d.]+\s*)+")


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
        mask: A picture of any kind that is white where the style goes; None for everywhere.
        regions: Styles with masks of their own; later ones cover earlier ones. With regions only,
            the rest of the photo is kept.

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
        for name in ("avoid", "source"):
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not text.strip()):
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
                    "to move away from a style, use avoid"
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
        regions: Sequence[tuple[Any, Any]] = (),
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
            mask: See the class.
            regions: Pairs of a mask and a prompt or `Style`.

        Raises:
            InputError: See the class.

        Examples:
            >>> StyleRequest.parse(["ukiyo-e:0.7", "watercolor:0.3"]).prompts
            (('ukiyo-e', 0.7), ('watercolor', 0.3))
        """
        prompts = tuple(split_weight(text) for text in _several(prompt))
        pictures = tuple((picture, 1.0) for picture in _several(style_image))
        styles = tuple(
            split_weight(item) if isinstance(item, str) else (item, 1.0) for item in _several(style)
        )
        named: dict[str, Any] = {"avoid": avoid, "source": source, "templates": templates}
        parts = []
        for area, wanted in regions:
            keyword = "prompt" if isinstance(wanted, str) else "style"
            parts.append(cls.parse(**{keyword: wanted}, **named, mask=area))
        return cls(
            prompts, pictures, styles, avoid, source, tuple(_several(templates)), mask, tuple(parts)
        )

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
            named.append(("mask", layer.mask))
        return [(kind, file) for kind, file in named if isinstance(file, str | os.PathLike)]

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


def read_style(
    prompt: Any, style_image: Any, style: Any, *rest: Any
) -> StyleRequest | ResolvedStyle:
    """Read the style of a call: a request, or a prepared style on its own.

    Args:
        prompt: See `StyleRequest.parse`.
        style_image: See `StyleRequest.parse`.
        style: See `StyleRequest.parse`; or the result of `StylizePipeline.prepare`.
        rest: The other arguments of `StyleRequest.parse`, in order.

    Raises:
        InputError: See `StyleRequest`; or a prepared style is combined with something else.
    """
    if type(style).__name__ != "ResolvedStyle":  # by name: its module loads torch
        return StyleRequest.parse(prompt, style_image, style, *rest)
    parts = (prompt, style_image, *rest)
    if not all(part is None or (isinstance(part, list | tuple) and not part) for part in parts):
        raise InputError("a prepared style can't be combined: prepare it with the rest")
    prepared: ResolvedStyle = style
    return prepared
