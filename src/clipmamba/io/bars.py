"""Black bars at the edges of style pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DARK, _EVEN = 24, 14  # mean and standard deviation of a line's levels, 0 to 255, in a black bar
_WIDEST = 0.2  # of the picture's side; what is dark farther in belongs to the picture
_SOFT = 2  # lines beside a bar that it has darkened


def inside_bars(gray: NDArray[np.floating[Any]]) -> tuple[int, int, int, int]:
    """Find what black bars enclose, as stills from films and photos of paintings often have them.

    In a style picture they would mean black lines and darker colors.

    Args:
        gray: levels in [0, 255], (H, W).

    Returns:
        The box (left, top, right, bottom) inside the bars.
    """
    top, bottom, left, right = map(_bar, (gray, gray[::-1], gray.T, gray.T[::-1]))
    height, width = gray.shape
    return left, top, width - right, height - bottom


def _bar(lines: NDArray[np.floating[Any]]) -> int:
    """Return how many of the first lines belong to a black bar."""
    most = int(_WIDEST * len(lines))
    bright = (lines[: most + 1].mean(1) >= _DARK) | (lines[: most + 1].std(1) >= _EVEN)
    width = int(bright.argmax())
    return min(width + _SOFT, len(lines) // 3) if bright.any() and width else 0  # never all
