"""Square blocks of few colors, for pixel art.

A network that treats all places alike can't know where a block begins.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

BLOCKS = 96  # along the longer side
COLORS = 32  # of a picture's palette


def pixelate(picture: Tensor, stroke: float = 1.0) -> Tensor:
    """Divide pictures into square blocks of one color, each picture with a palette of its own.

    Args:
        picture: (B, 3, H, W) in [0, 1].
        stroke: Size of the blocks, relative to `BLOCKS` of them along the longer side.

    Returns:
        The same shape and range. Differentiable.
    """
    height, width = picture.shape[2:]
    scale = min(1.0, BLOCKS / stroke / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    blocks = functional.interpolate(picture, size, mode="area")
    blocks = torch.stack([_in_few_colors(each) for each in blocks])
    return functional.interpolate(blocks, (height, width), mode="nearest-exact")


def _in_few_colors(picture: Tensor) -> Tensor:
    """Replace the colors of a picture (3, h, w) by the means of `COLORS` groups of them."""
    pixels = picture.detach().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(np.rint(pixels * 255).clip(0, 255).astype(np.uint8))
    indexed = image.quantize(COLORS, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    group = torch.from_numpy(np.asarray(indexed).astype(np.int64)).to(picture.device).flatten()
    colors = picture.flatten(1)  # (3, h·w)
    sums = colors.new_zeros(3, COLORS).index_add(1, group, colors)
    means = sums / group.bincount(minlength=COLORS).clamp(min=1)
    return means[:, group].view_as(picture)
