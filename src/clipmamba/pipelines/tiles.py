"""Tiled processing of large pictures: bounded memory, one look, no seams.

Three measures make the tiles one picture. Normalization uses the moments of the whole picture,
gathered by survey passes over the tiles. All tiles read from one noise field, at their positions.
And neighbors overlap and fade into each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipmamba.models import Stylizer
from clipmamba.models.second_design import SecondView
from clipmamba.nn import PictureMoments, TileMoments

_GRID = 16  # tiles start at multiples of this, so that they share the network's grid
_OVERLAP = 8  # neighbors overlap by 1 / 8 of a tile,
_CONTEXT = 64  # but by at least this many pixels, since scans lack context at a tile's edges
# Survey passes before drawing: the stem's two norms, one after the other, then the norm after the
# blocks. Each: start as a share of the total time, whether it runs the stem only, share of time.
_ROUNDS = ((0.0, True, 0.05), (0.05, True, 0.05), (0.1, False, 0.25))
_SURVEYED = 0.35


@dataclass(frozen=True)
class Span:
    """The extent of a tile along one axis.

    Attributes:
        start: First pixel.
        weights: Blending weight at each of its pixels, (length,); the weights of all spans of an
            axis add up to 1 at every pixel.
    """

    start: int
    weights: Tensor

    @property
    def place(self) -> slice:
        """The tile's pixels, as a slice."""
        return slice(self.start, self.start + len(self.weights))


def spans(length: int, tile: int) -> list[Span]:
    """Cover `length` pixels with overlapping tiles of about equal length, at most `tile`.

    Args:
        length: Length of the axis, in pixels.
        tile: Longest side of a tile in pixels; a multiple of 16, at least 64.
    """
    if length <= tile:
        return [Span(0, torch.ones(length, dtype=torch.float32))]
    overlap = _round_up(max(tile // _OVERLAP, min(_CONTEXT, tile // 2)))
    count = math.ceil((length - overlap) / (tile - overlap))
    step = _round_up(math.ceil((length - overlap) / count))
    rise = (torch.arange(overlap, dtype=torch.float32) + 0.5) / overlap
    rise = rise * rise * (3 - 2 * rise)
    places = []
    for start in range(0, length - overlap, step):
        weights = torch.ones(min(step + overlap, length - start), dtype=torch.float32)
        if start > 0:
            weights[:overlap] *= rise
        if start + len(weights) < length:
            weights[-overlap:] *= 1 - rise
        places.append(Span(start, weights))
    total = torch.zeros(length, dtype=torch.float32)
    for span in places:
        total[span.place] += span.weights
    return [Span(span.start, span.weights / total[span.place]) for span in places]


def restyle_in_tiles(
    stylizer: Stylizer | SecondView,
    photo: Tensor,
    style: Tensor,
    noise: Tensor,
    tile: int,
    progress: Callable[[float], None] = lambda part: None,
) -> Tensor:
    """Restyle photos tile by tile.

    Args:
        stylizer: The network.
        photo: sRGB in [0, 1], (B, 3, H, W).
        style: Unit style points, (B, E).
        noise: Noise for the whole picture, from `Stylizer.draw_noise`.
        tile: Longest side of a tile in pixels, a multiple of 16.
        progress: Called with the share of work done, up to 1.

    Returns:
        Pictures (B, 3, H, W), sRGB; values may leave [0, 1].
    """
    height, width = photo.shape[2:]
    places = list(itertools.product(spans(height, tile), spans(width, tile)))

    def parts(begun: float, share: float) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Yield box, noise and weights of each tile, and report progress after it."""
        for done, (rows, columns) in enumerate(places, 1):
            grain = noise[..., _noise(rows, step), _noise(columns, step)]
            yield (..., rows.place, columns.place), grain, rows.weights[:, None] * columns.weights
            progress(begun + share * done / len(places))

    step = stylizer.noise_stride
    whole = PictureMoments()
    for begun, stem_only, share in _ROUNDS:
        gathering = TileMoments(whole)
        for box, grain, weights in parts(begun, share):
            gathering.begin(weights)
            stylizer.survey(photo[box], style, grain, gathering, stem_only)
        whole = gathering.gathered()
    result = torch.zeros_like(photo)
    for box, grain, weights in parts(_SURVEYED, 1 - _SURVEYED):
        result[box] += stylizer(photo[box], style, grain, whole) * weights.to(photo)
    return result


def _noise(span: Span, step: int) -> slice:
    """Slice the noise of a tile, at `step` pixels per value, padded to the network's stride."""
    return slice(span.start // step, (span.start + _round_up(len(span.weights), 8)) // step)


def _round_up(value: int, multiple: int = _GRID) -> int:
    return -(-value // multiple) * multiple
