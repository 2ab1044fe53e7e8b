"""How much of the photo's colors a style in words keeps by default."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from clipmamba.styles.known import KNOWN_STYLES, lookup_style

if TYPE_CHECKING:
    from clipmamba.clip import Clip
    from clipmamba.styles.prior import StylePrior

SHARE = 0.6  # of the photo's colors, for styles without a palette of their own
SHARPNESS = 0.03  # of the softmax over cosine similarities to the known styles

_known: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def photo_color(words: str, embedding: Tensor, clip: Clip, prior: StylePrior | None) -> float:
    """Compute `Style.photo_color` for words: that of the known styles nearest to them.

    Args:
        words: The style in words.
        embedding: Its text embedding, (1, E).
        clip: The CLIP model that the embedding comes from.
        prior: Maps text embeddings to where pictures of them lie; None compares the texts.
    """
    known = lookup_style(words)
    if known is not None:
        return 0.0 if known.palette else SHARE
    point = embedding if prior is None else prior(embedding)
    likeness = _known_points(clip, prior) @ point[0].detach().cpu()
    without = torch.tensor([not style.palette for style in KNOWN_STYLES]).float()
    nearest = (likeness / SHARPNESS).softmax(0)
    return round(SHARE * float(nearest @ without), 2)  # a trace is none


@torch.no_grad()
def _known_points(clip: Clip, prior: StylePrior | None) -> Tensor:
    """Return the points of the known styles, (N, E) on the CPU, from their names alone."""
    key = clip if prior is None else prior
    if key not in _known:
        points = clip.encode_text([style.prompt for style in KNOWN_STYLES])
        _known[key] = (points if prior is None else prior(points)).cpu()
    return _known[key]
