"""Turn the form's values into command-line arguments, and into the command to repeat them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipmamba.errors import InputError
from clipmamba.io import MAX_PIXELS
from clipmamba.page.settings import PageSettings
from clipmamba.pipelines.options import COLORS, StylizeOptions, is_number, is_whole
from clipmamba.pipelines.saved import model_label

MAX_VARIANTS = 8

Shown = Callable[[Path], str]


@dataclass(frozen=True)
class Wish:
    """A visitor's request, without the pictures.

    Args:
        prompt: the style in words; may be empty.
        strength: 0 to 1.5; see `StylizeOptions` for this and the following.
        stroke: stroke size relative to the default, 0.5 to 2.
        colors: a key of `COLORS`.
        seed: digits; empty for the default picture.
        variants: number of pictures, 1 to 8.
    """

    prompt: str = ""
    strength: float = StylizeOptions.strength
    stroke: float = StylizeOptions.stroke
    colors: str = "automatic"
    seed: str = ""
    variants: int = 1

    def arguments(self, photo: Path, style_image: Path | None, settings: PageSettings) -> list[str]:
        """Return the arguments for `clipmamba stylize`.

        Args:
            photo: the picture to restyle.
            style_image: a picture in that style.
            settings: the page's settings.

        Raises:
            InputError: no style is given, or a value is of the wrong kind or out of range.
        """
        return list(self._words(photo, style_image, settings, str))

    def shown(self, photo: Path, style_image: Path | None, settings: PageSettings) -> str:
        """The command to type where photo and style picture lie.

        If other machines can reach the page, the model is named without its folder.
        """
        words = self._words(photo, style_image, settings, lambda path: _plain(path.name))
        return shlex.join(["clipmamba", "stylize", *words])

    def _words(
        self, photo: Path, style_image: Path | None, settings: PageSettings, name: Shown
    ) -> Iterator[str]:
        self._check()
        prompt, seed = self.prompt.strip(), self.seed.strip()
        if seed and not seed.isdecimal():
            raise InputError(f"The seed must be a whole number, not {seed!r}; or leave it empty.")
        if not prompt and style_image is None:
            raise InputError("Type a style, choose one below, or drop a picture in that style.")
        yield name(photo)
        if prompt:
            yield from ("-p", prompt)
        if style_image is not None:
            yield from ("--style-image", name(style_image))
        if self.strength != StylizeOptions.strength:
            yield from ("--strength", f"{self.strength:g}")
        if self.stroke != StylizeOptions.stroke:
            yield from ("--stroke", f"{self.stroke:g}")
        keep = COLORS[self.colors]
        if keep is not None:
            yield "--preserve-color" if keep else "--no-preserve-color"
        if seed:
            yield from ("--seed", str(int(seed)))
        if self.variants != 1:
            yield from ("--variants", str(self.variants))
        if settings.max_pixels != MAX_PIXELS:
            yield from ("--max-pixels", str(settings.max_pixels))
        if settings.device != "auto":
            yield from ("--device", settings.device)
        if settings.model is not None:
            local = settings.is_local or name is str
            yield from ("--model", settings.model if local else model_label(settings.model))

    def _check(self) -> None:
        """Check the values, which programs send as they like."""
        for name, value in (("strength", self.strength), ("stroke", self.stroke)):
            if not is_number(value) or isinstance(value, bool):
                raise InputError(f"{name} must be a number, not {json.dumps(value)}")
        if not (is_whole(self.variants) and 1 <= self.variants <= MAX_VARIANTS):
            raise InputError(
                f"variants must be a whole number from 1 to {MAX_VARIANTS} here, "
                f"not {json.dumps(self.variants)}"
            )
        if self.colors not in list(COLORS):
            raise InputError(f"colors must be one of {list(COLORS)}, not {json.dumps(self.colors)}")
        StylizeOptions(strength=self.strength, stroke=self.stroke)  # checks their ranges


def _plain(name: str) -> str:
    """Make a file name that no program mistakes for an option."""
    return f"./{name}" if name.startswith("-") else name
