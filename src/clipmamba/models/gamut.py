"""Gamut mapping of colors that the network draws outside sRGB."""

from __future__ import annotations

import torch
from torch import Tensor

_TOE = 0.03  # brightness below which shadows are compressed
_KNEE = 0.9  # share of the distance to the gamut's boundary from which colors are compressed
_WHITE = 253.4 / 255  # upper limit of colors; above is colorless paper white


def into_gamut(picture: Tensor) -> Tensor:
    """Map colors into sRGB so that different colors stay different, unlike with clipping.

    Clipping changes the hue and merges everything outside into flat areas. Here brightness and hue
    are kept; the distance from gray is compressed near the gamut's boundary (a knee), and shadows
    are compressed near black (a toe). Colors well inside are unchanged. Compare Morovič, "Color
    Gamut Mapping", Wiley 2008.

    Args:
        picture: sRGB of any range, (B, 3, H, W), floating-point.

    Returns:
        The same shape, in [0, 1]; only pixels as bright as white reach the upper end.
    """
    # The mean, not Rec. 709 luma: blue has so little weight there that far blues would amplify
    # rounding errors.
    red, green, blue = torch.split(picture, 1, dim=1)
    bright = (red + green + blue) / 3
    above = torch.maximum(torch.maximum(red, green), blue) - bright
    below = bright - torch.minimum(torch.minimum(red, green), blue)
    toe = _TOE**2 / (2 * _TOE - bright.clamp(max=_TOE))
    light = (toe + (bright - _TOE).clamp(min=0)).clamp(max=1)
    # 1 on the gamut's boundary
    part = torch.maximum(above / (_WHITE - light).clamp(min=1e-4), below / light.clamp(min=1e-4))
    beyond = (part - _KNEE).clamp(min=0)
    compressed = part.clamp(max=_KNEE) + (1 - _KNEE) * beyond / (beyond + 1 - _KNEE)
    gain = compressed / part.clamp(min=1e-6)
    return torch.addcmul(light - bright * gain, picture, gain).clamp(0, 1)
