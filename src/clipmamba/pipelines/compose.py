"""Compositing of the restyled picture and its photo: colors and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.io.convert import luma
from clipmamba.models.gamut import into_gamut


def keep_color(restyled: Tensor, photo: Tensor) -> Tensor:
    """Combine the photo's colors with the restyled picture's brightness.

    Args:
        restyled: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.

    Returns:
        Pictures with the luma (Rec. 709) of `restyled` and the color differences of `photo`;
        values may leave [0, 1] where the two are incompatible.
    """
    return photo + luma(restyled - photo)


def lay_over(below: Tensor, above: Tensor, mask: Tensor) -> Tensor:
    """Composite a picture over another with a mask.

    Args:
        below: (B, 3, H, W) in [0, 1]; unchanged, bit for bit, where the mask is 0.
        above: The same shape and range.
        mask: (1, 1, H, W) in [0, 1].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    return torch.where(mask > 0, torch.lerp(below, above, mask), below)


def union(masks: Sequence[Tensor | None], picture: Tensor) -> Tensor:
    """Return the pixelwise maximum of masks (1, 1, H, W); None stands for the whole picture."""
    given = [mask for mask in masks if mask is not None]
    if len(given) < len(masks):
        return torch.ones_like(picture[:1, :1])
    return torch.cat(given).amax(0, keepdim=True)


def within_gamut(picture: Tensor) -> Tensor:
    """Apply `into_gamut` to a few rows at a time, to save memory."""
    return torch.cat([into_gamut(rows) for rows in torch.split(picture, 256, dim=2)], dim=2)


def check_finished(finished: object, picture: Tensor) -> Tensor:
    """Return what `finish` made of a picture, on its device.

    Raises:
        InputError: It is no tensor of this shape, or not finite.
    """
    if not isinstance(finished, Tensor) or finished.shape != picture.shape:
        got = tuple(finished.shape) if isinstance(finished, Tensor) else type(finished).__name__
        raise InputError(f"finish must return a tensor {tuple(picture.shape)}, not {got}")
    if not torch.isfinite(finished).all():
        raise InputError("finish returned a picture with NaN or infinite values")
    return finished.to(picture)
