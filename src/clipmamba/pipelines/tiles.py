"""Large pictures in tiles: bounded memory, one look, no seams.

Three things make the tiles one picture: the normalisation takes its moments from the whole,
reduced picture; the noise is one field that every tile reads at its place; and neighbours overlap
and fade into each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clipmamba.models import Stylizer
from clipmamba.nn import PictureMoments
from clipmamba.pipelines.compose import resize

_GRID = 16  # tiles begin at its multiples, so that the network's own grid goes on unbroken
_OVERLAP = 8  # neighbours share this part of a tile: an eighth


@dataclass(frozen=True)
class Span:
    """Where a tile lies along one side of the picture.

    Attributes:
        start: First pixel.
        weights: How much the tile counts at each of its pixels, (length,); all spans of a side
            add up to 1 everywhere.
    """

    start: int
    weights: Tensor

    @property
    def place(self) -> slice:
        """The tile's pixels."""
        return slice(self.start, self.start + len(self.weights))


def spans(length: int, tile: int) -> list[Span]:
    """Covers `length` pixels with overlapping tiles of about equal length, at most `tile`.

    Args:
        length: Pixels of a side.
        tile: A multiple of 16, at least 64.
    """
    if length <= tile:
        return [Span(0, torch.ones(length))]
    overlap = _round_up(tile // _OVERLAP)
    count = math.ceil((length - overlap) / (tile - overlap))
    step = _round_up(math.ceil((length - overlap) / count))
    rise = (torch.arange(overlap) + 0.5) / overlap
    rise = rise * rise * (3 - 2 * rise)
    covered = []
    for start in range(0, length - overlap, step):
        weights = torch.ones(min(step + overlap, length - start))
        if start > 0:
            weights[:overlap] = rise
        if start + len(weights) < length:
            weights[-overlap:] = 1 - rise
        covered.append(Span(start, weights))
    return covered


def restyle_in_tiles(
    stylizer: Stylizer,
    photo: Tensor,
    style: Tensor,
    seed: int,
    tile: int,
    progress: Callable[[float], None] = lambda part: None,
) -> Tensor:
    """Restyles photos tile by tile.

    Args:
        stylizer: The network.
        photo: sRGB in [0, 1], (B, 3, H, W).
        style: Unit style points, (B, E).
        seed: Of the noise.
        tile: Longest side of a tile in pixels, a multiple of 16.
        progress: Called with the part that is done, up to 1.

    Returns:
        Pictures (B, 3, H, W), sRGB, not clamped to [0, 1].
    """
    height, width = photo.shape[2:]
    scale = min(1.0, tile / math.sqrt(height * width))
    small = resize(photo, max(1, round(height * scale)), max(1, round(width * scale)))
    whole = PictureMoments()
    stylizer(small, style, stylizer.draw_noise(small.shape[2], small.shape[3], seed), whole)

    noise = stylizer.draw_noise(height, width, seed)
    result = torch.zeros_like(photo)
    places = list(itertools.product(spans(height, tile), spans(width, tile)))
    for done, (rows, columns) in enumerate(places, 1):
        box = (..., rows.place, columns.place)
        grain = noise[..., _half(rows), _half(columns)]
        weights = rows.weights[:, None] * columns.weights
        result[box] += stylizer(photo[box], style, grain, whole) * weights.to(photo)
        progress(done / len(places))
    return result


def _half(span: Span) -> slice:
    """Where the noise of a tile lies: at half size, the tile filled up to the network's stride."""
    return slice(span.start // 2, (span.start + _round_up(len(span.weights), 8)) // 2)


def _round_up(value: int, multiple: int = _GRID) -> int:
    return -(-value // multiple) * multiple
