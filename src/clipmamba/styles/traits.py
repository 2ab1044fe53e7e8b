"""Traits of a style in words beside its point: the photo's colors it keeps, and square blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from clipmamba.styles.known import KNOWN_STYLES, KnownStyle, lookup_style

if TYPE_CHECKING:
    from clipmamba.clip import Clip
    from clipmamba.styles.prior import StylePrior

SHARE = 0.6  # of the photo's colors, for styles without a palette of their own
PIXELATED = 0.5  # from here on, pictures consist of blocks
SHARPNESS = 0.03  # of the softmax over cosine similarities to the known styles

_known: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


class Traits(NamedTuple):
    """See the fields of `Style` with these names."""

    photo_color: float = 0.0
    pixelated: float = 0.0


def find_traits(words: str, embedding: Tensor, clip: Clip, prior: StylePrior | None) -> Traits:
    """Find the traits of a style in words: those of the known styles nearest to them.

    Args:
        words: The style in words.
        embedding: Its text embedding, (1, E).
        clip: The CLIP model that the embedding comes from.
        prior: Maps text embeddings to where pictures of them lie; None compares the texts.
    """
    known = lookup_style(words)
    if known is not None:
        return _traits(known)
    point = embedding if prior is None else prior(embedding)
    likeness = _known_points(clip, prior) @ point[0].detach().cpu()
    nearest = (likeness / SHARPNESS).softmax(0)
    means = nearest @ torch.tensor([_traits(style) for style in KNOWN_STYLES])
    return Traits(*(round(value, 2) for value in means.tolist()))  # a trace is none


def _traits(known: KnownStyle) -> Traits:
    return Traits(0.0 if known.palette else SHARE, float(known.pixelated))


@torch.no_grad()
def _known_points(clip: Clip, prior: StylePrior | None) -> Tensor:
    """Return the points of the known styles, (N, E) on the CPU, from their names alone."""
    key = clip if prior is None else prior
    if key not in _known:
        points = clip.encode_text([style.prompt for style in KNOWN_STYLES])
        _known[key] = (points if prior is None else prior(points)).cpu()
    return _known[key]
