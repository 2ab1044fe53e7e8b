"""Find a part of a photo by words, with whichever method knows the words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.io import from_srgb
from clipmamba.io.convert import tensor_to_array
from clipmamba.regions.words import BACKGROUND, FACE, PERSON, SKY, canonical, check_words

Segmenter = Callable[[Image.Image, str], Tensor]


class PartFinder:
    """Finds parts of photos by words.

    Args:
        segmenter: Finds any words: given a picture and words, (h, w) in [0, 1] of the picture's
            aspect ratio. None leaves the words that are found offline.
    """

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter

    def __call__(self, photo: Tensor, words: str, *, offline: bool = False) -> Image.Image:
        """Find a part of a photo.

        Args:
            photo: sRGB in [0, 1], (1, 3, H, W).
            words: What to look for.
            offline: Do not use the segmenter.

        Returns:
            A mask of the photo's size, white where the part is.

        Raises:
            InputError: The part can't be found, or a package is missing.
            WeightsError: A model can't be loaded.
        """
        segmenter = None if offline else self._segmenter
        check_words([words], segmenter=segmenter is not None)
        photo = photo.detach().to(torch.float32)
        with torch.no_grad():
            if segmenter is not None:
                mask = _segment(segmenter, photo, words)
            else:
                mask = _find_offline(photo, canonical(words))
        return Image.fromarray(tensor_to_array(mask, np.dtype(np.uint8))[..., 0])


def _find_offline(photo: Tensor, word: str) -> Tensor:
    if word == SKY:
        from clipmamba.regions.sky import mask_sky

        return mask_sky(photo)
    if word == FACE:
        from clipmamba.regions.faces import mask_faces

        return mask_faces(photo)
    from clipmamba.regions.people import mask_people

    assert word in (PERSON, BACKGROUND)
    people = mask_people(photo).mul(255).round().div(255)  # as in 8 bits: both add up to white
    return people if word == PERSON else 1 - people


def _segment(segmenter: Segmenter, photo: Tensor, words: str) -> Tensor:
    from clipmamba.regions.edges import follow_edges

    picture = from_srgb(tensor_to_array(photo.clamp(0, 1), np.dtype(np.float32)))
    found = segmenter(picture, words)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.numel():
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"the segmenter must return a tensor (h, w) for {words!r}, not {got}")
    if not torch.isfinite(found).all():
        raise InputError(f"the segmenter returned NaN or infinity for {words!r}")
    rough = found.to(photo)[None, None]
    if rough.amax() < 0.5:
        return photo.new_zeros(1, 1, *photo.shape[2:])
    return follow_edges(rough, photo)
