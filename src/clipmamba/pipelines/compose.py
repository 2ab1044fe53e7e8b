"""How a restyled picture is laid over its photo: colors and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipmamba.io.convert import luma
from clipmamba.models.gamut import into_gamut


def keep_color(restyled: Tensor, photo: Tensor) -> Tensor:
    """Put the photo's colors in the restyled picture's light.

    Args:
        restyled: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.

    Returns:
        Pictures with the brightness (Rec. 709) of `restyled` and the color differences of
        `photo`; may leave [0, 1] where both can't be had.
    """
    return photo + luma(restyled - photo)


def lay_over(below: Tensor, above: Tensor, mask: Tensor) -> Tensor:
    """Lay a picture over another where a mask says so.

    Args:
        below: (B, 3, H, W) in [0, 1]; stays to the bit where the mask is 0.
        above: The same shape and range.
        mask: (1, 1, H, W) in [0, 1].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    return torch.where(mask > 0, torch.lerp(below, above, mask), below)


def union(masks: Sequence[Tensor | None], picture: Tensor) -> Tensor:
    """Where any of some masks (1, 1, H, W) is; None stands for all of the picture's places."""
    given = [mask for mask in masks if mask is not None]
    if len(given) < len(masks):
        return torch.ones_like(picture[:1, :1])
    return torch.cat(given).amax(0, keepdim=True)


def within_gamut(picture: Tensor) -> Tensor:
    """`into_gamut`, some rows at a time: of a large picture each step's memory counts."""
    return torch.cat([into_gamut(rows) for rows in torch.split(picture, 256, dim=2)], dim=2)
