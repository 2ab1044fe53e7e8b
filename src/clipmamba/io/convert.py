"""Conversions between arrays (H, W, C) and tensors (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmamba.errors import InputError
from clipmamba.io.color import LUMA

# Resampling overshoots [0, 1] a little; pictures in 0..255 are far outside.
_SLACK = 0.5
_STRIP = 1 << 17  # pixels of a strip


def array_to_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Convert an array to a batch of one picture.

    Args:
        array: (H, W, C), unsigned integers over their full range or floats in [0, 1].

    Returns:
        float32 (1, C, H, W) in [0, 1].

    Raises:
        InputError: wrong number of axes, no pixels, wrong dtype or range.
    """
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"an array must have the shape (H, W, C), not {array.shape}")
    if np.issubdtype(array.dtype, np.unsignedinteger):
        pixels = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    elif np.issubdtype(array.dtype, np.floating):
        pixels = array.astype(np.float32, copy=False)
    else:
        raise InputError(f"an array must be uint8 or float, not {array.dtype}")
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    check_range(tensor)
    return tensor


def tensor_to_array(tensor: torch.Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert a batch of one picture to an array of the given dtype.

    Args:
        tensor: (1, C, H, W) in [0, 1].
        dtype: an unsigned integer type (scaled to its full range and rounded) or a float type.

    Returns:
        (H, W, C).
    """
    array = tensor.detach()[0].permute(1, 2, 0).cpu().numpy()
    if np.issubdtype(dtype, np.unsignedinteger):
        # float16 could not hold the levels of uint16; float64 is exact.
        array = np.rint(array.astype(np.float64) * np.iinfo(dtype).max)
    return np.ascontiguousarray(array, dtype)


def resize(pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize pictures (B, C, H, W); bicubic, antialiased."""
    if pictures.shape[2:] == (height, width):
        return pictures
    return torch.nn.functional.interpolate(
        pictures, (height, width), mode="bicubic", antialias=True, align_corners=False
    )


def rescale(pictures: torch.Tensor, factor: float) -> torch.Tensor:
    """Resize pictures (B, C, H, W) by a factor, to at least one pixel; see `resize`."""
    height, width = (max(1, round(side * factor)) for side in pictures.shape[2:])
    return resize(pictures, height, width)


def window_means(pictures: torch.Tensor, radius: int, stride: int = 1) -> torch.Tensor:
    """Average pictures (B, C, H, W) over square windows, cut at the edges.

    Args:
        pictures: (B, C, H, W).
        radius: Half the side of a window, without its middle.
        stride: Distance between the middles of windows; the first is the first pixel.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).
    """
    side = 2 * radius + 1

    def sums(values: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(values, (radius,) * 4)
        # Columns, then rows: the same as squares, in time linear in the radius. Several times as
        # fast as avg_pool2d.
        return padded.unfold(2, side, stride).sum(-1).unfold(3, side, stride).sum(-1)

    return sums(pictures) / sums(torch.ones_like(pictures[:1, :1]))


def in_strips(function: Callable[..., torch.Tensor], *pictures: torch.Tensor) -> torch.Tensor:
    """Apply a pixelwise function to a few rows at a time, so that what it computes stays in caches.

    Args:
        function: Takes strips of the pictures, and returns one of the shape of the first.
        pictures: (B, C, H, W), of equal height and width; the numbers of channels may differ.

    Returns:
        The result for the whole pictures. Differentiable.
    """
    rows = max(1, _STRIP // pictures[0].shape[3])
    strips = zip(*(torch.split(picture, rows, dim=2) for picture in pictures), strict=True)
    made = (function(*strip) for strip in strips)
    first = next(made)
    if first.requires_grad:
        return torch.cat([first, *made], dim=2)
    result = first.new_empty(pictures[0].shape)
    for place, strip in zip(torch.split(result, rows, dim=2), chain([first], made), strict=True):
        place.copy_(strip)
    return result


def luma(pictures: torch.Tensor) -> torch.Tensor:
    """Compute the Rec. 709 luma (B, 1, H, W) of sRGB pictures (B, 3, H, W), without linearizing."""
    red, green, blue = torch.split(pictures, 1, dim=1)
    return (LUMA[0] * red).add(green, alpha=LUMA[1]).add(blue, alpha=LUMA[2])


def check_range(images: torch.Tensor) -> None:
    """Refuse values that can't be a picture in [0, 1].

    Raises:
        InputError: NaN, infinity, or values far outside, such as 0..255.
    """
    low, high = (float(value) for value in images.detach().aminmax())
    if not -_SLACK <= low <= high <= 1 + _SLACK:
        raise InputError(f"pixel values must be in [0, 1], found {low:g} to {high:g}")
