"""Conversions between arrays (H, W, C) and tensors (B, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipmamba.errors import InputError
from clipmamba.io.color import LUMA

# Resampling overshoots [0, 1] a little; pictures in 0..255 are far outside.
_SLACK = 0.5


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
    side, means = 2 * radius + 1, torch.nn.functional.avg_pool2d
    # columns, then rows: the same as squares, in time linear in the radius
    columns = means(pictures, (side, 1), (stride, 1), (radius, 0), count_include_pad=False)
    return means(columns, (1, side), (1, stride), (0, radius), count_include_pad=False)


def luma(pictures: torch.Tensor) -> torch.Tensor:
    """Compute the Rec. 709 luma (B, 1, H, W) of sRGB pictures (B, 3, H, W), without linearizing."""
    weights = torch.tensor(LUMA, device=pictures.device, dtype=pictures.dtype)[:, None, None]
    return (pictures * weights).sum(1, keepdim=True)


def check_range(images: torch.Tensor) -> None:
    """Refuse values that can't be a picture in [0, 1].

    Raises:
        InputError: NaN, infinity, or values far outside, such as 0..255.
    """
    low, high = (float(value) for value in images.detach().aminmax())
    if not -_SLACK <= low <= high <= 1 + _SLACK:
        raise InputError(f"pixel values must be in [0, 1], found {low:g} to {high:g}")
