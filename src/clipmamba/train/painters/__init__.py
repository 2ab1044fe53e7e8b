"""Procedural painters: pure functions that restyle a photo, exactly aligned with it.

They give the stylizer unlimited training data (photo, words, result) free of rights. A painter
takes a float32 photo (H, W, 3) in sRGB [0, 1] and a numpy generator; the same generator state
gives the same picture. Texture scales with the short side, so a 256-pixel picture looks like a
128-pixel one.

    from clipmamba.train.painters import PAINTERS
    picture = PAINTERS["mosaic"](photo, np.random.default_rng(7))
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from clipmamba.errors import InputError
from clipmamba.train.painters import craft, drawing, light, painting, prints, tiles
from clipmamba.train.painters.brushes.tone import Array

__all__ = ["MIN_SIDE", "PAINTERS", "Painter"]

MIN_SIDE = 32
"""Shortest side in pixels that a painter accepts."""


@dataclass(frozen=True)
class Painter:
    """A style as a function, with the words that a person would type for it.

    Attributes:
        name: Key in `PAINTERS`, lower case with blanks.
        paint: The function (photo (H, W, 3) float32 in [0, 1], generator) -> same shape and range.
        prompts: English phrases for this style: synonyms, media, spellings.
    """

    name: str
    paint: Callable[[Array, np.random.Generator], Array]
    prompts: tuple[str, ...]

    def __call__(self, photo: Array, rng: np.random.Generator) -> Array:
        """Restyle a photo.

        Args:
            photo: float32 (H, W, 3), sRGB in [0, 1], both sides at least `MIN_SIDE`.
            rng: Draws palette, angles, sizes and grain.

        Returns:
            A new float32 array (H, W, 3) in [0, 1], aligned with the photo.

        Raises:
            InputError: The array has another shape or type, or is too small.
        """
        if photo.dtype != np.float32 or photo.ndim != 3 or photo.shape[2] != 3:
            raise InputError(
                f"a painter takes a float32 array (H, W, 3), got {photo.dtype} {photo.shape}; "
                "convert it first"
            )
        if min(photo.shape[:2]) < MIN_SIDE:
            raise InputError(f"photo of {photo.shape[:2]} is too small; give at least {MIN_SIDE}²")
        return self.paint(photo, rng)


_FUNCTIONS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "pixel art": tiles.pixel_art,
    "mosaic": tiles.mosaic,
    "stained glass": tiles.stained_glass,
    "low poly": tiles.low_poly,
    "cubism": tiles.cubism,
    "cross-stitch": tiles.cross_stitch,
    "embroidery": tiles.embroidery,
    "halftone": prints.halftone,
    "newsprint": prints.newsprint,
    "comic book": prints.comic_book,
    "pop art": prints.pop_art,
    "woodcut": prints.woodcut,
    "linocut": prints.linocut,
    "engraving": prints.engraving,
    "ukiyo-e": prints.ukiyo_e,
    "art nouveau": prints.art_nouveau,
    "risograph": prints.risograph,
    "duotone": prints.duotone,
    "pencil sketch": drawing.pencil_sketch,
    "coloured pencil": drawing.coloured_pencil,
    "charcoal": drawing.charcoal,
    "ink wash": drawing.ink_wash,
    "blueprint": drawing.blueprint,
    "chalkboard": drawing.chalkboard,
    "pastel": drawing.pastel,
    "watercolour": painting.watercolour,
    "oil painting": painting.oil_painting,
    "impressionism": painting.impressionism,
    "pointillism": painting.pointillism,
    "van Gogh": painting.van_gogh,
    "expressionism": painting.expressionism,
    "fauvism": painting.fauvism,
    "baroque": painting.baroque,
    "sepia": light.sepia,
    "cyanotype": light.cyanotype,
    "film noir": light.noir,
    "neon": light.neon,
    "anime": light.anime,
    "cartoon": light.cartoon,
    "gold relief": light.gold_relief,
    "vaporwave": light.vaporwave,
    "paper cut": craft.paper_cut,
    "knitted wool": craft.knitted,
    "marble": craft.marble,
    "night": craft.night,
    "fire": craft.fire,
    "frost": craft.frost,
    "thermal camera": craft.thermal,
    "golden hour": craft.golden_hour,
}
_PROMPTS = tomllib.loads((files(__name__) / "prompts.toml").read_text(encoding="utf-8"))

PAINTERS = {name: Painter(name, paint, tuple(_PROMPTS[name])) for name, paint in _FUNCTIONS.items()}
"""Every painter by name."""
