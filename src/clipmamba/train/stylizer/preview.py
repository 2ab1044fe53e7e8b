"""What a style picture teaches: the pixels of a photo, optimized for the losses of training.

Gatys, Ecker & Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016. It
shows in seconds what a network can learn from a picture at best.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import torch
from PIL import Image

from clipmamba.io.convert import tensor_to_array
from clipmamba.losses.terms import select_terms
from clipmamba.losses.vgg import VggFeatures
from clipmamba.train.stylizer.pairs import as_images
from clipmamba.train.stylizer.task import TERMS, LossWeights, Step, StyleMoments

LEARNING_RATE = 0.04  # of the pixels, in [0, 1]; falls to a fifth of it
SHOWN = (
    "texture",
    "content",
    "color",
    "calm",
    "gamut",
)  # losses of a photo and a style picture alone


def preview(
    photo: Image.Image,
    picture: Image.Image,
    vgg: VggFeatures,
    weights: LossWeights,
    stroke: float = 1.0,
    steps: int = 40,
) -> tuple[Image.Image, dict[str, float]]:
    """Optimize the pixels of a photo for the losses of training that need no CLIP model.

    Args:
        photo: The photo, a square whose side is a multiple of 8 from 64 pixels up.
        picture: The style picture, a square.
        vgg: The features of the texture and content losses.
        weights: The weights of the losses; of `SHOWN` only.
        stroke: Stroke size, as in training.
        steps: Steps of the optimizer, at least 1.

    Returns:
        A picture of the photo's size, and its unweighted losses before the last step.
    """
    chosen = {name: value for name, value in dataclasses.asdict(weights).items() if name in SHOWN}
    terms = select_terms(TERMS, chosen, ["vgg"])
    start, style = (as_images([np.asarray(image)]) for image in (photo, picture))
    pixels = start.clone().requires_grad_()
    none = torch.zeros(0)
    optimizer = torch.optim.Adam([pixels], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, steps)
    seen = StyleMoments()
    losses: dict[str, float] = {}
    for number in range(steps):
        step = Step(
            output=pixels,
            photo=start,
            picture=style,
            picture_keys=[0],
            face=torch.zeros(1, 4),
            result=start[:0],
            stroke=stroke,
            noise_power=none,
            style=none,
            others=none,
            source=none,
            rng=random.Random(number),
            networks={"vgg": vgg},
            style_moments=seen,
        )
        values = {term.name: term.function(step).mean() for term in terms}
        optimizer.zero_grad()
        torch.stack([chosen[name] * value for name, value in values.items()]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses = {name: value.item() for name, value in values.items()}
    return Image.fromarray(tensor_to_array(pixels.clamp(0, 1), np.dtype(np.uint8))), losses
