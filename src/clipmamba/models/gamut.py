"""How colors that the network draws beyond sRGB come back into it."""

from __future__ import annotations

import torch
from torch import Tensor

_TOE = 0.03  # brightness below which shadows are drawn together
_KNEE = 0.9  # part of the way to the gamut's edge from which on colors are drawn together
_WHITE = 253.4 / 255  # color ends here: above lies white paper, which has none


def into_gamut(picture: Tensor) -> Tensor:
    """Draw colors from outside into sRGB, so that neighbors stay apart where a cut would not.

    A cut changes the hue and makes one flat spot of all that lies outside. Here brightness and hue
    stay; the distance from grey is compressed as it nears the edge (a knee), and shadows likewise
    as they near black (a toe). Colors well inside stay as they are. Compare Morovič, "Color Gamut
    Mapping", Wiley 2008.

    Args:
        picture: sRGB of any range, (B, 3, H, W), floating.

    Returns:
        The same shape, in [0, 1]; only white and what is as bright as it touches the upper end.
    """
    # Not Rec. 709's luma: blue weighs so little in it that a far blue would move with any rounding.
    bright = picture.mean(1, keepdim=True)
    toe = _TOE**2 / (2 * _TOE - bright.clamp(max=_TOE))
    light = (toe + (bright - _TOE).clamp(min=0)).clamp(max=1)
    color = picture - bright
    room = torch.where(color > 0, (_WHITE - light).clamp(min=0), light).clamp(min=1e-4)
    part = (color.abs() / room).amax(1, keepdim=True)  # of the way to the edge; 1 lies on it
    beyond = (part - _KNEE).clamp(min=0)
    compressed = part.clamp(max=_KNEE) + (1 - _KNEE) * beyond / (beyond + 1 - _KNEE)
    return (light + color * (compressed / part.clamp(min=1e-6))).clamp(0, 1)
