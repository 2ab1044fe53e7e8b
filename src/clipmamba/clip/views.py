"""Views of a picture, whose embeddings are averaged as a prompt's are over templates."""

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
"""How much each view enlarges the picture: the whole, and its middle, where strokes are larger."""


def encode_picture(clip: Clip, images: Tensor, views: Sequence[float] = VIEWS) -> Tensor:
    """Unit embeddings (B, E) of B pictures, each the mean over the views, renormalized.

    Differentiable with respect to the pixels.

    Args:
        clip: The CLIP model.
        images: sRGB in [0, 1], float, (B, 3, H, W).
        views: Enlargements, at least 1; what then lies outside the picture's frame is cut off.

    Raises:
        InputError: No view, or one below 1; not a float tensor (B, 3, H, W).
    """
    if not views or not all(view >= 1 for view in views):
        raise InputError("a picture's views need enlargements of at least 1")
    rows = [clip.encode_image(_middle(images, view)) for view in views]
    return F.normalize(torch.stack(rows).mean(0), dim=-1)


def _middle(images: Tensor, enlargement: float) -> Tensor:
    """What stays in the frame of pictures (..., H, W) when they are enlarged."""
    height, width = (max(1, round(side / enlargement)) for side in images.shape[-2:])
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]
