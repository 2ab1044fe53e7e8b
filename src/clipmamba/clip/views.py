"""Views of a picture, whose embeddings are averaged like a prompt's over templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from clipmamba.clip.model import Clip

VIEWS: tuple[float, ...] = (1.0, 1.15, 1.5)
"""Enlargement of each view: the whole picture, and center crops, where strokes look larger."""


def encode_picture(clip: Clip, images: Tensor, views: Sequence[float] = VIEWS) -> Tensor:
    """Embed B pictures as unit rows (B, E), each the renormalized mean over the views.

    Differentiable in the pixels.

    Args:
        clip: The CLIP model.
        images: sRGB in [0, 1], float, (B, 3, H, W).
        views: Enlargements of at least 1; each view is the center crop that fills the frame.

    Raises:
        InputError: There are no views, one is below 1, or `images` is not a float tensor
            (B, 3, H, W).
    """
    if not views or not all(view >= 1 for view in views):
        raise InputError("a picture's views need enlargements of at least 1")
    rows = [clip.encode_image(_middle(images, view)) for view in views]
    return F.normalize(torch.stack(rows).mean(0), dim=-1)


def _middle(images: Tensor, enlargement: float) -> Tensor:
    """Crop the center of pictures (..., H, W) that fills the frame after an enlargement."""
    height, width = (max(1, round(side / enlargement)) for side in images.shape[-2:])
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]
