"""What style somebody asks for, before any model is loaded; no torch here.

Words, pictures and saved styles, each with a weight; words to stay away from; words for what is
shown and must not be taken for style.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from clipmamba.clip import Clip
    from clipmamba.styles.prior import StylePrior
    from clipmamba.styles.style import Style

STYLE_FORMAT = "clipmamba.style.v1"
PUSH = 0.3  # how far `avoid` pushes beyond what the style shares with it; unit points are ~1 apart
_WEIGHTED = re.compile(r"(?P<text>.*\S)\s*:\s*(?P<weight>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*")


@dataclass(frozen=True)
class StyleRequest:
    """A style as asked for.

    Args:
        prompts: Words and their weights.
        pictures: Pictures that show the style (paths, images, arrays, tensors), and weights.
        styles: `Style` objects or files saved from them, and factors on their own weights.
        avoid: Words that the style is moved away from.
        source: Words for what the photo or the style picture shows; its content is taken out of
            the style.
        templates: Sentences around the words, with {} in their place; none for the usual ones.

    Raises:
        InputError: Nothing asked for, an empty text, a weight that is not above 0, a template
            without {}.
    """

    prompts: tuple[tuple[str, float], ...] = ()
    pictures: tuple[tuple[Any, float], ...] = ()
    styles: tuple[tuple[Style | str | os.PathLike[str], float], ...] = ()
    avoid: str | None = None
    source: str | None = None
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.prompts or self.pictures or self.styles):
            raise InputError("no style given: add a prompt or a style image")
        for text, _ in self.prompts:
            if not isinstance(text, str) or not text.strip():
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
    ) -> StyleRequest:
        """Reads what people write.

        Args:
            prompt: Words, or several; `"ukiyo-e:0.7"` carries a weight. A colon that no number
                follows belongs to the words.
            style_image: A picture, or a list of them.
            style: A `Style`, a file saved from one, or a list of these; a file's name may carry a
                weight too.
            avoid: See the class.
            source: See the class.
            templates: See the class; one, or several.

        Raises:
            InputError: See the class.
        """
        prompts = tuple(_weighted(text) for text in _several(prompt))
        pictures = tuple((picture, 1.0) for picture in _several(style_image))
        styles = tuple(
            _weighted(item) if isinstance(item, str) else (item, 1.0) for item in _several(style)
        )
        return cls(prompts, pictures, styles, avoid, source, tuple(_several(templates)))

    @property
    def label(self) -> str:
        """A short name for files and reports, for example "ukiyo-e + watercolor"."""
        names = [text.strip() for text, _ in self.prompts]
        for what, _ in (*self.pictures, *self.styles):
            is_file = isinstance(what, str | os.PathLike)
            names.append(Path(what).stem if is_file else getattr(what, "label", "") or "picture")
        return " + ".join(names) + (f" without {self.avoid.strip()}" if self.avoid else "")

    def resolve(
        self,
        clip: Clip,
        prior: StylePrior | None = None,
        seed: int | None = None,
        to_tensor: Callable[[Any], Tensor] | None = None,
    ) -> Style:
        """Finds the style's point.

        `avoid` takes out what the style has in common with the avoided one, as seen from a plain
        photo, and goes a little further; `source` takes out the direction in which "a photo of"
        that thing lies from "a photo".

        Args:
            clip: Gives words and pictures their points.
            prior: Carries a text's point to where pictures of it lie.
            seed: A variant of the prompts, drawn by the prior.
            to_tensor: Brings a picture to (B, 3, H, W) in [0, 1]; needed if there are pictures.

        Raises:
            InputError: The ingredients cancel, or are points of another CLIP.
            WeightsError: A saved style can't be read.
        """
        from clipmamba.styles.style import Style

        def point(text: str, variant: int | None = None) -> Style:
            return Style.text(text, clip, prior, variant, self.templates or None)

        parts = [weight * point(text, seed) for text, weight in self.prompts]
        for picture, weight in self.pictures:
            if to_tensor is None:
                raise InputError("a style picture needs to_tensor= to be read")
            parts.append(weight * Style.image(to_tensor(picture), clip))
        for style, weight in self.styles:
            parts.append(weight * (style if isinstance(style, Style) else Style.load(Path(style))))
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed + part
        if len(mixed.embedding) != clip.embed_dim or mixed.clip not in ("", clip.name):
            raise InputError(
                f"the style {mixed.label!r} belongs to CLIP {mixed.clip!r}, not to {clip.name!r}; "
                "make it anew with this model"
            )
        if self.avoid is None and self.source is None:
            return Style(mixed.embedding, self.label, clip.name)

        plain = point("photo").embedding
        vector = mixed.embedding.to(plain.device)
        if self.source is not None:
            content = point(f"photo of {self.source}").embedding - plain
            vector = _without(vector, plain, content, push=0.0)
        if self.avoid is not None:
            vector = _without(vector, plain, point(self.avoid).embedding - plain, push=PUSH)
        return Style(vector, self.label, clip.name)


def check_style_file(path: str | os.PathLike[str]) -> None:
    """Says at once, without torch, whether a file is a saved style.

    Raises:
        InputError: It is not there, not whole, or something else.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "'clipmamba embed' makes one"
    if not Path(path).is_file():
        raise InputError(f"no such style file: {path}; {remedy}")
    try:
        with safe_open(path, framework="np") as file:
            kind = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError):
        kind = None
    if kind != STYLE_FORMAT:
        raise InputError(f"{path} is not a whole style file; {remedy}")


def _without(vector: Tensor, plain: Tensor, direction: Tensor, push: float) -> Tensor:
    """Takes out what `vector` has of a direction, seen from `plain`, and `push` more."""
    length = direction.norm()
    if length < 1e-6:  # the words mean a plain photo: there is nothing to take out
        return vector
    direction = direction / length
    shared = ((vector - plain) @ direction).clamp(min=0)
    return vector - (shared + push) * direction


def _several(value: Any) -> list[Any]:
    """None as no item, one item as a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _weighted(text: str) -> tuple[str, float]:
    match = _WEIGHTED.fullmatch(text) if isinstance(text, str) else None
    return (match["text"], float(match["weight"])) if match else (text, 1.0)
