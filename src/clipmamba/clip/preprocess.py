"""open_clip's evaluation transform on tensors: differentiable, antialiased, for any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


def preprocess(
    images: Tensor,
    size: int | tuple[int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
    fill_color: int = 0,
) -> Tensor:
    """Resize, crop and normalize pictures like open_clip, but differentiably.

    Args:
        images: sRGB pictures (B, 3, H, W) in [0, 1], float.
        size: Height and width of the result; one number for a square.
        mean: One value for each channel.
        std: One value for each channel.
        interpolation: "bicubic" or "bilinear", both antialiased as in Pillow.
        resize_mode: "shortest" fits the short side and crops the middle, "longest" fits the long
            side and pads, "squash" ignores the aspect ratio.
        fill_color: Gray level of the padding, 0 to 255.

    Returns:
        (B, 3, *size), float32, normalized.

    Raises:
        ValueError: The interpolation or resize mode is unknown.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {INTERPOLATIONS}, not {interpolation!r}")
    height, width = (size, size) if isinstance(size, int) else size
    if resize_mode == "shortest":
        images = _without_far_ends(images, (height, width))
    resized = _resized_size((images.shape[-2], images.shape[-1]), (height, width), resize_mode)
    x = images.float()
    for pass_size in ((x.shape[-2], resized[1]), resized):  # rows first, as Pillow does
        if pass_size != tuple(x.shape[-2:]):
            x = _resize(x, pass_size, interpolation)
            # Clip the overshoots of bicubic at edges, as Pillow does. The gradient passes straight
            # through, so that pixels out of range keep theirs.
            x = x + (x.detach().clamp(0, 1) - x.detach())
    x = _center_crop_or_pad(x, height, width, fill_color / 255)
    shape = (3, 1, 1)
    return (x - _constant(mean, x).view(shape)) / _constant(std, x).view(shape)


def _without_far_ends(images: Tensor, target: tuple[int, int]) -> Tensor:
    """Crop a long picture before the resize, if the crop after it would drop most of it.

    Resized whole, a picture of 1 x 16,384 pixels would be 160 x 2,621,440. About twice the visible
    part is kept, for the filter's support, symmetrically, so that the center stays in place.
    """
    source = (images.shape[-2], images.shape[-1])
    scale = min(source[0] / target[0], source[1] / target[1])
    whole = _resized_size(source, target, "shortest")
    for axis in (0, 1):
        length = source[axis]
        kept = math.ceil(2 * target[axis] * scale) + 8
        kept += (length - kept) % 2
        if length <= 2 * kept:
            continue
        for longer in range(kept, kept + 16, 2):  # match the whole's parity after the resize
            sides = (longer, source[1]) if axis == 0 else (source[0], longer)
            if (_resized_size(sides, target, "shortest")[axis] - whole[axis]) % 2 == 0:
                kept = longer
                break
        images = images.narrow(axis - 2, (length - kept) // 2, kept)
    return images


def _resize(x: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    if x.shape[-1] == size[1] == 1:  # PyTorch 2.14 resizes a single column as if it were a row
        return _resize(x.expand(*x.shape[:-1], 2), (size[0], 2), interpolation)[..., :1]
    return F.interpolate(x, size, mode=interpolation, antialias=True)


def _constant(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(tuple(values), dtype=like.dtype, device=like.device)


def _resized_size(
    source: tuple[int, int], target: tuple[int, int], resize_mode: str
) -> tuple[int, int]:
    """Compute height and width after the resize, rounded like torchvision and open_clip."""
    if resize_mode == "squash":
        return target
    height, width = source
    ratios = (height / target[0], width / target[1])
    if resize_mode == "shortest":
        if target[0] == target[1]:  # torchvision's Resize(int) truncates
            short, side = min(source), target[0]
            return (
                side if height == short else int(side * height / short),
                side if width == short else int(side * width / short),
            )
        return round(height / min(ratios)), round(width / min(ratios))
    if resize_mode == "longest":
        return max(1, round(height / max(ratios))), max(1, round(width / max(ratios)))
    raise ValueError(f"resize_mode must be one of {RESIZE_MODES}, not {resize_mode!r}")


def _center_crop_or_pad(x: Tensor, height: int, width: int, fill: float) -> Tensor:
    pad_y, pad_x = max(height - x.shape[-2], 0), max(width - x.shape[-1], 0)
    if pad_y or pad_x:
        sides = (pad_x // 2, (pad_x + 1) // 2, pad_y // 2, (pad_y + 1) // 2)
        x = F.pad(x, sides, value=fill)
    top = round((x.shape[-2] - height) / 2)
    left = round((x.shape[-1] - width) / 2)
    return x[..., top : top + height, left : left + width]
