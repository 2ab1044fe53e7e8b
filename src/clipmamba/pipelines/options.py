"""How a picture is restyled, apart from the style itself; no torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from clipmamba.errors import InputError

MAX_STRENGTH = 1.5
MIN_STROKE, MAX_STROKE = 0.5, 2.0
DETAIL_SIDE = 1024  # pixels of the long side at detail 1
WORKING_SIDE = 1280  # pixels: a network whose strokes have a size need not see more of a photo,
LEAST_WORKING_SIDE = 256  # and draws its finest strokes on so many
AUTO_TILE = 1024  # side of the tiles that are chosen for large pictures
AUTO_PIXELS = 2048 * 2048  # a picture is large from here on,
AUTO_ENLARGED = 1024 * 1024  # and one that `detail` enlarges from here on
MIN_TILE = 128
_KINDS = {"strength": float, "preserve_color": bool, "stroke": float, "detail": float,
          "grain": bool, "max_size": int, "tile": int, "seed": int, "variants": int}  # fmt: skip
_BOOLEANS = ("True", "False")  # numpy's, without importing numpy


@dataclass(frozen=True)
class StylizeOptions:
    """The one place of the options' meaning, defaults and limits.

    Args:
        strength: 0 gives the photo back unchanged, 1 the full style, up to 1.5 exaggerates.
        preserve_color: Keep the photo's colors and take only light and shade from the style.
        stroke: Size of strokes and texture beside the usual, 0.5 to 2.
        detail: Size of strokes and texture whatever the size of the photo: 1 as on a picture of
            1024 pixels, 2 half as large, 0.5 twice. None: as the network draws them by itself, in
            proportion to the picture, or, if it knows no size of strokes, on the photo's own
            pixels, the finer the larger the photo.
        grain: Give the network the noise that grain and strokes grow from. Without it empty skies
            stay calm, and a seed only chooses the variant of the words.
        max_size: Longest side of the result in pixels; a smaller photo is not enlarged.
        tile: Longest side of the tiles that a picture is worked on in, in pixels (rounded up to
            a multiple of 16): less memory, nearly the same picture. "auto": 1024 for pictures of
            more than 4 million pixels, or of more than 1 million that `detail` enlarges. None:
            always the whole picture at once.
        seed: Chooses among the variants of a prompt; the same seed gives the same bytes.
        variants: How many pictures of each photo, with seeds seed, seed + 1, …

    Raises:
        InputError: A value outside its limits.

    Examples:
        >>> StylizeOptions(strength=2)
        Traceback (most recent call last):
        clipmamba.errors.InputError: strength must lie between 0 and 1.5, not 2
    """

    strength: float = 1.0
    preserve_color: bool = False
    stroke: float = 1.0
    detail: float | None = None
    grain: bool = True
    max_size: int | None = None
    tile: int | Literal["auto"] | None = "auto"
    seed: int | None = None
    variants: int = 1

    def __post_init__(self) -> None:
        if not (_is_number(self.strength) and 0 <= self.strength <= MAX_STRENGTH):
            raise InputError(f"strength must lie between 0 and {MAX_STRENGTH}, not {self.strength}")
        if not (_is_number(self.stroke) and MIN_STROKE <= self.stroke <= MAX_STROKE):
            raise InputError(
                f"stroke must lie between {MIN_STROKE} and {MAX_STROKE}, not {self.stroke}"
            )
        if self.detail is not None and not (_is_number(self.detail) and 0.1 <= self.detail <= 8):
            raise InputError(f"detail must lie between 0.1 and 8, not {self.detail}")
        if self.max_size is not None and not (_is_whole(self.max_size) and self.max_size >= 1):
            raise InputError(f"max_size must be a whole number of pixels, not {self.max_size}")
        if self.tile not in (None, "auto") and not (
            _is_whole(self.tile) and int(self.tile) >= MIN_TILE
        ):
            raise InputError(
                f"tile must be 'auto' or a side of at least {MIN_TILE} pixels, not {self.tile}"
            )
        if not (_is_whole(self.variants) and 1 <= self.variants <= 100):
            raise InputError(f"variants must be a whole number from 1 to 100, not {self.variants}")
        if self.seed is not None and not (_is_whole(self.seed) and 0 <= self.seed < 2**63 - 100):
            raise InputError(f"seed must be an integer from 0 to 2**63 - 101, not {self.seed}")
        for name in ("preserve_color", "grain"):
            if not (isinstance(value := getattr(self, name), bool) or str(value) in _BOOLEANS):
                raise InputError(f"{name} must be True or False, not {value!r}")
        for name, kind in _KINDS.items():  # numbers of numpy become Python's
            if (value := getattr(self, name)) not in (None, "auto"):
                object.__setattr__(self, name, kind(value))

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each variant; the first of several without a seed is the usual picture."""
        if self.variants == 1:
            return [self.seed]
        if self.seed is None:
            return [None, *range(1, self.variants)]
        return [self.seed + turn for turn in range(self.variants)]

    def working_scale(self, width: int, height: int, sized: bool = False) -> float:
        """How much larger the network sees a photo than it is.

        Args:
            width: Of the photo, in pixels.
            height: The same.
            sized: Whether the network takes a size of strokes. To another one, larger strokes are
                those on a smaller picture.
        """
        longest = max(width, height)
        if not sized:
            scale = 1.0 if self.detail is None else self.detail * DETAIL_SIDE / longest
            return scale / self.stroke
        if self.detail is not None:
            return self.detail * DETAIL_SIDE / longest
        return max(min(longest, WORKING_SIDE), LEAST_WORKING_SIDE / self.stroke) / longest

    def stroke_for(self, side: int) -> float:
        """Size of strokes beside the usual, for a network that sees a longest side of `side`."""
        return self.stroke if self.detail is None else self.stroke * DETAIL_SIDE / side

    def tile_side(self, width: int, height: int, scale: float = 1.0) -> int | None:
        """Longest side of the tiles for a working picture; None: it is worked on whole.

        Args:
            width: Of what the network sees, in pixels.
            height: The same.
            scale: How much larger that is than the photo.
        """
        if self.tile is None:
            return None
        if self.tile == "auto":
            limit = AUTO_ENLARGED if scale > 1 else AUTO_PIXELS
            return AUTO_TILE if width * height > limit else None
        side = -(-self.tile // 16) * 16
        return side if max(width, height) > side else None

    def result_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result."""
        longest = max(width, height)
        if self.max_size is None or longest <= self.max_size:
            return width, height
        scale = self.max_size / longest
        return max(1, round(width * scale)), max(1, round(height * scale))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(float(value))


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
