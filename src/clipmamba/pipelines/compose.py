"""Compositing of the restyled picture and its photo: colors and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.io.convert import in_strips, luma

CELLS = 64  # along the longer side, in which colors are compared
SATURATION = (0.8, 2.5)  # least and largest factor on the photo's color differences
GRID = (24, 24)  # rows and columns in which contrast is compared
DIM = 1.3  # times a picture's contrast, which the photo's may be without making it dim
MOST_CONTRAST = 2.0  # largest factor on it, before `share`
FAINT = 0.03  # length of color differences below which there is hardly a hue


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


def mix_color(restyled: Tensor, photo: Tensor, share: float) -> Tensor:
    """Mix the photo's colors into the restyled picture, most where the two disagree.

    Skin does not become green, but a sky that is blue in both stays the style's blue. The photo's
    colors become about as strong as the restyled picture's, within `SATURATION`.

    Args:
        restyled: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.
        share: Share of the photo's colors where either picture is gray: it is half as much where
            their hues agree, and one and a half times as much where they are opposite.

    Returns:
        Pictures in [0, 1] with the luma (Rec. 709) of `restyled`, but for clipping.
    """
    height, width = photo.shape[2:]
    scale = min(1, CELLS / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    own, other = (
        _color_differences(F.interpolate(image, size, mode="area")) for image in (restyled, photo)
    )
    strength, photo_strength = (
        each.abs().mean((1, 2, 3), keepdim=True) + 1e-3 for each in (own, other)
    )
    gain = (strength / photo_strength).clamp(*SATURATION)
    agreement = F.cosine_similarity(own, other, dim=1, eps=FAINT)[:, None]
    part = (share * (1 - agreement / 2)).clamp(max=1)
    part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)

    def mixed(restyled: Tensor, photo: Tensor, part: Tensor) -> Tensor:
        move = _color_differences(gain * photo - restyled)  # of differences, which are linear
        return torch.addcmul(restyled, part, move).clamp(0, 1)

    return in_strips(mixed, restyled, photo, part)


def lift_contrast(restyled: Tensor, photo: Tensor, share: float) -> Tensor:
    """Raise contrast and brightness of a picture that is much dimmer than its photo.

    Args:
        restyled: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.
        share: How far to go, 0 to 1.

    Returns:
        Pictures in [0, 1]; those whose photo has at most `DIM` times their contrast are unchanged.
    """
    light, wanted = (luma(F.interpolate(image, GRID, mode="area")) for image in (restyled, photo))
    spread, photo_spread = (
        (each.var((1, 2, 3), keepdim=True) + 1e-6).sqrt() for each in (light, wanted)
    )
    gain = (photo_spread / spread / DIM).clamp(1, MOST_CONTRAST) ** share
    if (gain == 1).all():
        return restyled
    mean, other = (each.mean((1, 2, 3), keepdim=True) for each in (light, wanted))
    part = share * (2 * (gain - 1)).clamp(max=1)  # none at first: videos have no jumps
    new_mean = mean + part * (other - mean).clamp(min=0)
    return in_strips(lambda rows: (new_mean + gain * (rows - mean)).clamp(0, 1), restyled)


def _color_differences(image: Tensor) -> Tensor:
    return image - luma(image)


def with_photo_color(
    restyled: Tensor, photo: Tensor, preserve_color: bool | None, share: float
) -> Tensor:
    """Keep as much of the photo's colors as an option says, or by default a style's `share`.

    By default, pictures that keep some get back some of the photo's contrast, too.
    """
    if preserve_color:
        return keep_color(restyled, photo).clamp(0, 1)
    if preserve_color is None and share:
        return mix_color(lift_contrast(restyled, photo, share), photo, share)
    return restyled


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
