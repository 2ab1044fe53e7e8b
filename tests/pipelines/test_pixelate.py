"""Pixel art consists of square blocks, with colors in steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba.pipelines.pixelate import LIGHT, STEEP, pixelate
from clipmamba.styles import Style


def photo_like(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 6, 9, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")


@pytest.mark.parametrize(("stroke", "side"), [(1.0, 5), (2.0, 10), (0.5, 2.5)])
def test_blocks_have_their_size(stroke: float, side: float):
    picture = photo_like(320, 480)
    for made, own in zip(pixelate(picture, stroke), picture, strict=True):
        changes = (made.diff(dim=2) != 0).any(0).any(0).nonzero().flatten() + 1
        assert all(abs(place / side - round(place / side)) < 0.3 for place in changes.tolist())
        assert len(changes) > 0.8 * (480 / side - 1)
        assert (made - own).abs().mean() < 0.06
        torch.testing.assert_close(made.mean((1, 2)), own.mean((1, 2)), rtol=0, atol=0.02)


def test_light_and_colors_have_steps():
    """Of an even ramp, most lies on a step; what lies between is on a slope of `STEEP`."""
    ramp = torch.linspace(0, 1, 96)[None, None, None].expand(1, 3, 4, -1)
    made = pixelate(ramp)[0, 0, 0]
    on_a_step = (made / LIGHT - (made / LIGHT).round()).abs() < 1e-5
    assert 1 - 1 / STEEP - 0.1 < on_a_step.float().mean() < 1
    blocks = pixelate(photo_like(96, 96))[0].flatten(1)
    assert len((blocks * 255).round().unique(dim=1).T) < 0.5 * blocks.shape[1]


def test_faint_noise_stays_faint():
    picture = photo_like(320, 480)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    change = pixelate(picture + 1e-4 * noise) - pixelate(picture)
    assert change.abs().max() < 2.1 * STEEP * 1e-4


def test_it_does_not_depend_on_the_batch():
    picture = photo_like(40, 300)
    torch.testing.assert_close(pixelate(picture)[1:], pixelate(picture[1:]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (30, 2), (3, 500)])
def test_smallest_pictures(size):
    made = pixelate(torch.rand(1, 3, *size))
    assert made.shape == (1, 3, *size)
    assert made.isfinite().all()


def test_it_passes_gradients_between_two_steps():
    picture = photo_like(64, 192).requires_grad_()
    (pixelate(picture) - 2).square().sum().backward()
    assert picture.grad.isfinite().all()
    assert (picture.grad != 0).any(1).float().mean() > 0.2  # within a step there is none


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


def test_blocks_come_after_a_finish_and_in_the_sizes_of_detail(tiny_pipeline):
    photo = photo_like(192, 384)[:1]
    style = Style.text("pixel art", tiny_pipeline.clip, tiny_pipeline.prior)

    def blurred(photo, picture, seed, words):
        return torch.nn.functional.avg_pool2d(picture, 9, 1, 4)

    for options, side in (({"finish": blurred}, 4), ({"detail": 2.0}, 2)):
        made = tiny_pipeline(photo, style=style, **options).images
        blocks = made.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        assert (blocks == blocks[:, :, :, :1, :, :1]).all()
        assert (made.diff(dim=3)[..., side - 1 :: side] != 0).float().mean() > 0.5
