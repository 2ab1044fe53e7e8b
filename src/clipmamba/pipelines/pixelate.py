"""Square blocks in few colors, for pixel art.

A network that treats all places alike can't know where a block begins.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clipmamba.io.convert import luma

BLOCKS = 96  # along the longer side
LIGHT = 1 / 8  # between two steps of luma
COLOR = 1 / 16  # between two steps of a color difference
STEEP = 6.0  # slope between two steps: a hard edge would turn faint noise into flicker


def pixelate(picture: Tensor, stroke: float = 1.0) -> Tensor:
    """Divide pictures into square blocks of one color, with luma and colors in steps.

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
    light = luma(blocks)
    blocks = (_in_steps(light, LIGHT) + _in_steps(blocks - light, COLOR)).clamp(0, 1)
    return functional.interpolate(blocks, (height, width), mode="nearest-exact")


def _in_steps(values: Tensor, step: float) -> Tensor:
    """Round to multiples of a step, but continuously: halfway between two, the slope is `STEEP`."""
    nearest = (values / step).round() * step
    rest = values - nearest
    beyond = (rest.abs() - step / 2 * (1 - 1 / STEEP)).clamp(min=0)
    return nearest + STEEP * torch.copysign(beyond, rest)
