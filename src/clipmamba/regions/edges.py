"""Soft edges that follow the photo: the guided filter of He, Sun and Tang (2010), in color."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clipmamba.io.convert import rescale, window_means

WORKING_SIDE = 512  # the coefficients are smooth: large photos need no more
_REACH = 24  # radius as a fraction of the longest side: as far as a rough edge may be off
_EPSILON = 1e-4  # variance of colors in [0, 1] below which a window counts as uniform
_DECISION = 4  # slope at 0.5: what is likely inside the mask becomes fully inside
_CLEAR = 0.1  # values closer than this to 0 or 1 become 0 or 1


def follow_edges(mask: Tensor, photo: Tensor) -> Tensor:
    """Enlarge a rough mask to a photo's size, with its edges along the photo's edges.

    Args:
        mask: How likely each place is inside, (1, 1, h, w) in [0, 1], of the photo's aspect ratio.
        photo: sRGB in [0, 1], (1, 3, H, W).

    Returns:
        (1, 1, H, W) in [0, 1], exactly 0 and 1 away from the edges.
    """
    height, width = photo.shape[2:]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small = rescale(photo, scale).clamp(0, 1)
    size = small.shape[2], small.shape[3]
    rough = ((_enlarge(mask, *size) - 0.5) * _DECISION + 0.5).clamp(0, 1)
    slope, offset = _fit(small, rough, max(2, max(size) // _REACH))
    # Slope and offset are enlarged together, as one picture of four channels.
    values = _enlarge(torch.cat([slope, offset], 1), height, width)
    followed = (values[:, :3] * photo).sum(1, keepdim=True) + values[:, 3:]
    return ((followed - _CLEAR) / (1 - 2 * _CLEAR)).clamp_(0, 1)


def _fit(photo: Tensor, mask: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Fit a linear map from color to mask around each place: (1, 3, h, w) and (1, 1, h, w)."""

    def mean(values: Tensor) -> Tensor:
        return window_means(values, radius)

    colors, level = mean(photo), mean(mask)
    together = mean(photo * mask) - colors * level  # (1, 3, h, w)
    pairs = mean((photo[:, :, None] * photo[:, None]).flatten(1, 2))
    spread = (
        pairs.reshape(1, 3, 3, *photo.shape[2:]) - colors[:, :, None] * colors[:, None]
    )  # (1, 3, 3, h, w)
    spread = spread.permute(0, 3, 4, 1, 2) + _EPSILON * torch.eye(3).to(spread)
    slope = torch.linalg.solve(spread, together.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    offset = level - (slope * colors).sum(1, keepdim=True)
    return mean(slope), mean(offset)


def _enlarge(values: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
