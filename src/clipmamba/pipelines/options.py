"""Options of restyling, apart from the style itself; does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from clipmamba.errors import InputError

MAX_STRENGTH = 1.5
MIN_STROKE, MAX_STROKE = 0.5, 2.0
WORKING_SIDE = 512  # longest side of the network's input at most, in pixels, for strokes of size 1
LEAST_WORKING_SIDE = 256  # the same at least, for small photos
AUTO_TILE = 1024  # tile side for large pictures, in pixels
AUTO_PIXELS = 2048 * 2048  # pictures with more pixels are large,
AUTO_ENLARGED = 1024 * 1024  # as are those that `detail` enlarges to more than this
MIN_TILE = 128
COLORS = {"automatic": None, "photo": True, "style": False}
"""Values of `preserve_color`, by the names that apps offer as choices."""
_KINDS = {"strength": float, "preserve_color": bool, "stroke": float, "detail": float,
          "grain": bool, "max_size": int, "tile": int, "seed": int, "variants": int}  # fmt: skip
_BOOLEANS = ("bool", "bool_")  # Python's and numpy's types, without importing numpy


@dataclass(frozen=True)
class StylizeOptions:
    """Meaning, defaults and limits of the options.

    Args:
        strength: 0 returns the photo unchanged, 1 is the full style, up to 1.5 exaggerates.
        preserve_color: True keeps the photo's colors and takes only light and shade from the style,
            False takes the style's colors. None mixes them as the style wants
            (`Style.photo_color`): techniques such as watercolor keep most of the photo's.
        stroke: Size of strokes and texture relative to the default, 0.5 to 2.
        detail: Level of detail, whatever the photo's size, 0.1 to 8: 1 draws strokes as by default
            on photos of 512 pixels and more, 2 half as large, 4 a quarter as large. None is 1, but
            less for smaller photos, which the network sees at their own size.
        grain: Feed the network the noise that grain and strokes grow from. Without it empty skies
            stay smooth, and a seed only chooses the variant of the words.
        max_size: Longest side of the result in pixels; a smaller photo is not enlarged.
        tile: Longest side in pixels of the tiles that the network's input is processed in (at
            least 128; rounded up to a multiple of 16): less memory and nearly the same result, in
            five times the time. "auto": 1024 for inputs of more than 4 million pixels, or of more
            than 1 million if `detail` enlarges the photo to them. None: never tile.
        seed: Selects among the variants of a prompt; the same seed gives the same bytes on a CPU.
        variants: Number of pictures per photo, 1 to 100, with seeds seed, seed + 1, …

    Raises:
        InputError: A value is out of range.

    Examples:
        >>> StylizeOptions(strength=2)
        Traceback (most recent call last):
        clipmamba.errors.InputError: strength must be between 0 and 1.5, not 2
    """

    strength: float = 1.0
    preserve_color: bool | None = None
    stroke: float = 1.0
    detail: float | None = None
    grain: bool = True
    max_size: int | None = None
    tile: int | Literal["auto"] | None = "auto"
    seed: int | None = None
    variants: int = 1

    def __post_init__(self) -> None:
        if not (is_number(self.strength) and 0 <= self.strength <= MAX_STRENGTH):
            raise InputError(f"strength must be between 0 and {MAX_STRENGTH}, not {self.strength}")
        if not (is_number(self.stroke) and MIN_STROKE <= self.stroke <= MAX_STROKE):
            raise InputError(
                f"stroke must be between {MIN_STROKE} and {MAX_STROKE}, not {self.stroke}"
            )
        if self.detail is not None and not (is_number(self.detail) and 0.1 <= self.detail <= 8):
            raise InputError(f"detail must be between 0.1 and 8, not {self.detail}")
        if self.max_size is not None and not (is_whole(self.max_size) and self.max_size >= 1):
            raise InputError(f"max_size must be an integer of at least 1, not {self.max_size}")
        if self.tile not in (None, "auto") and not (
            is_whole(self.tile) and int(self.tile) >= MIN_TILE
        ):
            raise InputError(
                f"tile must be 'auto' or a side of at least {MIN_TILE} pixels, not {self.tile}"
            )
        if not (is_whole(self.variants) and 1 <= self.variants <= 100):
            raise InputError(f"variants must be an integer from 1 to 100, not {self.variants}")
        if self.seed is not None and not (is_whole(self.seed) and 0 <= self.seed < 2**63 - 100):
            raise InputError(f"seed must be an integer from 0 to 2**63 - 101, not {self.seed}")
        for name, others in (("preserve_color", " or None"), ("grain", "")):
            value = getattr(self, name)
            if type(value).__name__ not in _BOOLEANS and not (others and value is None):
                raise InputError(f"{name} must be True or False{others}, not {value!r}")
        for name, kind in _KINDS.items():  # convert numpy scalars to Python's
            if (value := getattr(self, name)) not in (None, "auto"):
                object.__setattr__(self, name, kind(value))

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each variant; without a seed, the first variant is the default picture."""
        if self.variants == 1:
            return [self.seed]
        if self.seed is None:
            return [None, *range(1, self.variants)]
        return [self.seed + turn for turn in range(self.variants)]

    def working_scale(self, width: int, height: int) -> float:
        """Compute the scale from the photo to the network's input.

        Args:
            width: Width of the photo, in pixels.
            height: Height of the photo, in pixels.
        """
        longest = max(width, height)
        if self.detail is None:
            side: float = min(max(longest, LEAST_WORKING_SIDE), WORKING_SIDE)
        else:
            side = self.detail * WORKING_SIDE
        return side / self.stroke / longest

    @property
    def relative_stroke(self) -> float:
        """Size of strokes relative to those on the whole photo by default."""
        return self.stroke / (self.detail or 1)

    def tile_side(self, width: int, height: int, scale: float = 1.0) -> int | None:
        """Compute the longest side of the tiles, in pixels; None to process the picture whole.

        Args:
            width: Width of the network's input, in pixels.
            height: Height of the network's input, in pixels.
            scale: Scale from the photo to the input.
        """
        if self.tile is None:
            return None
        if self.tile == "auto":
            limit = AUTO_ENLARGED if scale > 1 else AUTO_PIXELS
            return AUTO_TILE if width * height > limit else None
        side = -(-self.tile // 16) * 16
        return side if max(width, height) > side else None

    def result_size(self, width: int, height: int) -> tuple[int, int]:
        """Compute width and height of the result, in pixels."""
        longest = max(width, height)
        if self.max_size is None or longest <= self.max_size:
            return width, height
        scale = self.max_size / longest
        return max(1, round(width * scale)), max(1, round(height * scale))


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, Real) and math.isfinite(float(value))


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)
