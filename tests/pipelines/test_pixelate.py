"""Pixel art consists of square blocks of few colors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba.pipelines.pixelate import COLORS, pixelate
from clipmamba.styles import Style


def photo_like(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 6, 9, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")


@pytest.mark.parametrize(("stroke", "side"), [(1.0, 5), (2.0, 10), (0.5, 2.5)])
def test_blocks_have_their_size_and_a_small_palette(stroke: float, side: float):
    picture = photo_like(320, 480)
    for made, own in zip(pixelate(picture, stroke), picture, strict=True):
        changes = (made.diff(dim=2) != 0).any(0).any(0).nonzero().flatten() + 1
        assert all(abs(place / side - round(place / side)) < 0.3 for place in changes.tolist())
        assert len(changes) > 0.8 * (480 / side - 1)
        assert len(made.flatten(1).unique(dim=1).T) <= COLORS
        assert (made - own).abs().mean() < 0.06
        torch.testing.assert_close(made.mean((1, 2)), own.mean((1, 2)), rtol=0, atol=0.01)


def test_it_does_not_depend_on_the_batch():
    picture = photo_like(40, 300)
    torch.testing.assert_close(pixelate(picture)[1:], pixelate(picture[1:]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (30, 2), (3, 500)])
def test_smallest_pictures(size):
    made = pixelate(torch.rand(1, 3, *size))
    assert made.shape == (1, 3, *size)
    assert made.isfinite().all()


def test_it_passes_gradients_to_every_pixel():
    picture = photo_like(64, 192).requires_grad_()
    pixelate(picture).square().sum().backward()
    assert (picture.grad > 0).all()


@pytest.mark.parametrize(("words", "blocks"), [("pixel art", True), ("oil painting", False)])
def test_pictures_in_that_style_have_blocks(tiny_pipeline, words: str, blocks: bool):
    photo = Image.fromarray((photo_like(96, 288)[0] * 255).byte().permute(1, 2, 0).numpy())
    made = np.asarray(tiny_pipeline(photo, prompt=words).images[0]).astype(int)
    within = np.abs(made.reshape(32, 3, 96, 3, 3) - made[::3, ::3].reshape(32, 1, 96, 1, 3))
    assert (within.max() == 0) == blocks


def test_strength_fades_them_in(tiny_pipeline):
    photo = photo_like(96, 288)[:1]
    style = Style.text("pixel art", tiny_pipeline.clip, tiny_pipeline.prior)
    whole = tiny_pipeline(photo, style=style).images
    half = tiny_pipeline(photo, style=style, strength=0.5).images
    torch.testing.assert_close(half, (photo + whole) / 2, rtol=0, atol=1e-5)
