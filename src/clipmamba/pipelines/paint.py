"""Run the network at its working size, and enlarge its picture to the photo's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from clipmamba.errors import InputError
from clipmamba.io.convert import in_strips, rescale
from clipmamba.models.gamut import into_gamut
from clipmamba.pipelines.enlarge import enlarge
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.tiles import restyle_in_tiles
from clipmamba.styles.resolve import StyleLayer

if TYPE_CHECKING:
    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.models.view import StylizerView
    from clipmamba.styles import StylePrior

    Painter = Callable[
        ["PaintingPipeline", Tensor, StyleLayer, StylizeOptions, Callable[[float], None]], Tensor
    ]


class PaintingPipeline(Protocol):
    """What painting and refinement need of a `StylizePipeline`."""

    @property
    def stylizer(self) -> Stylizer:
        """The network."""

    @property
    def clip(self) -> Clip:
        """The CLIP model of the style embeddings."""

    @property
    def prior(self) -> StylePrior | None:
        """Maps text embeddings to style embeddings."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    def network_for(self, side: int, stroke: float = 1.0) -> StylizerView:
        """Return the network for pictures of a longest side, and strokes of a size."""

    def with_stylizer(self, stylizer: Stylizer) -> PaintingPipeline:
        """Return a pipeline with other parameters."""


def paint(
    pipeline: PaintingPipeline,
    photo: Tensor,
    layer: StyleLayer,
    options: StylizeOptions,
    tell: Callable[[float], None] = lambda part: None,
) -> Tensor:
    """Restyle photos completely; strength, colors and masks are applied later.

    Args:
        pipeline: The pipeline whose network paints.
        photo: sRGB in [0, 1], (B, 3, H, W).
        layer: A style with one variant, whose seed is also that of the noise.
        options: Stroke size, grain, tiles.
        tell: Called with the progress, 0 to 1.

    Returns:
        Pictures (B, 3, H, W) in [0, 1]; differentiable.

    Raises:
        InputError: The caller's autocast makes the network overflow.
    """
    [(seed, style)] = layer.styles.items()
    stylizer = pipeline.stylizer
    height, width = photo.shape[2:]
    scale = options.working_scale(width, height)
    small = rescale(photo, scale)
    # Not wider than the photo itself: a margin must not multiply a thin one.
    rows, columns = (min(stylizer.margin, side) for side in small.shape[2:])
    seen = functional.pad(small, (columns, columns, rows, rows), mode="replicate")
    points = style.embedding.to(seen).expand(len(seen), -1)
    noise = stylizer.draw_noise(seen.shape[2], seen.shape[3], seed or 0) * options.grain
    side = max(small.shape[2:])
    network = pipeline.network_for(side, options.relative_stroke)
    tile = options.tile_side(small.shape[3], small.shape[2], scale)
    if tile is None:
        restyled = network(seen, points, noise)
    else:
        restyled = restyle_in_tiles(network, seen, points, noise, tile, tell)
    restyled = restyled[..., rows:-rows, columns:-columns]
    if torch.is_autocast_enabled(restyled.device.type) and not restyled.isfinite().all():
        raise InputError("the network overflows under autocast to float16: use bfloat16, or none")
    if small.shape != photo.shape:
        restyled = enlarge(restyled, small, photo)
    return in_strips(into_gamut, restyled)
