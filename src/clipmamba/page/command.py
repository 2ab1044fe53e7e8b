"""From the values of the page to the words of a command line, and to the line that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipmamba.errors import InputError
from clipmamba.io import MAX_PIXELS
from clipmamba.page.settings import PageSettings
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.saved import model_label

Shown = Callable[[Path], str]


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for, but the pictures.

    Args:
        prompt: the style in words; may be empty.
        strength: see `StylizeOptions`, as for all that follow.
        stroke: size of strokes beside the usual.
        preserve_color: keep the photo's colors.
        seed: digits; empty for the usual picture.
        variants: how many pictures.
    """

    prompt: str = ""
    strength: float = StylizeOptions.strength
    stroke: float = StylizeOptions.stroke
    preserve_color: bool = False
    seed: str = ""
    variants: int = 1

    def arguments(self, photo: Path, style_image: Path | None, settings: PageSettings) -> list[str]:
        """The arguments of `clipmamba stylize` that fulfil it.

        Args:
            photo: the picture to restyle.
            style_image: a picture that shows the style.
            settings: of the page.

        Raises:
            InputError: there is no style, or the seed is no number.
        """
        return list(self._words(photo, style_image, settings, str))

    def shown(self, photo: Path, style_image: Path | None, settings: PageSettings) -> str:
        """The command to type where photo and style picture lie.

        Where other machines reach the page, it names the model without its folder.
        """
        words = self._words(photo, style_image, settings, lambda path: _plain(path.name))
        return shlex.join(["clipmamba", "stylize", *words])

    def _words(
        self, photo: Path, style_image: Path | None, settings: PageSettings, name: Shown
    ) -> Iterator[str]:
        prompt, seed = self.prompt.strip(), self.seed.strip()
        if seed and not seed.isdecimal():
            raise InputError(f"The seed must be a whole number, not {seed!r}; or leave it empty.")
        if not prompt and style_image is None:
            raise InputError("Say a style, choose one below, or drop a picture that shows it.")
        yield name(photo)
        if prompt:
            yield from ("-p", prompt)
        if style_image is not None:
            yield from ("--style-image", name(style_image))
        if self.strength != StylizeOptions.strength:
            yield from ("--strength", f"{self.strength:g}")
        if self.stroke != StylizeOptions.stroke:
            yield from ("--stroke", f"{self.stroke:g}")
        if self.preserve_color:
            yield "--preserve-color"
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


def _plain(name: str) -> str:
    """A file's name that is taken for an option by no program."""
    return f"./{name}" if name.startswith("-") else name
