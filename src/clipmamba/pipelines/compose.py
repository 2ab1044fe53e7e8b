"""How a restyled picture is laid over its photo: colours and masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709


def resize(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (B, C, H, W) in another size; reduced without aliasing."""
    if pictures.shape[2:] == (height, width):
        return pictures
    return F.interpolate(
        pictures, (height, width), mode="bicubic", antialias=True, align_corners=False
    )


def keep_color(restyled: Tensor, photo: Tensor) -> Tensor:
    """The photo's colours in the restyled picture's light.

    Args:
        restyled: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.

    Returns:
        Pictures with the brightness (Rec. 709) of `restyled` and the colour differences of
        `photo`; may leave [0, 1] where both can't be had.
    """
    weights = torch.tensor(_LUMA, device=photo.device, dtype=photo.dtype)[:, None, None]
    light = ((restyled - photo) * weights).sum(1, keepdim=True)
    return photo + light


def lay_over(below: Tensor, above: Tensor, mask: Tensor) -> Tensor:
    """Lays a picture over another where a mask says so.

    Args:
        below: (B, 3, H, W) in [0, 1]; stays to the bit where the mask is 0.
        above: The same shape and range.
        mask: (1, 1, H, W) in [0, 1].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    return torch.where(mask > 0, torch.lerp(below, above, mask), below)
