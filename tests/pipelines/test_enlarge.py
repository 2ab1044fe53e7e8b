"""Enlargement of restyled pictures to the size of their photos."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clipmamba.io.convert import luma, resize
from clipmamba.pipelines.enlarge import enlarge

SIZE = 24, 31


@pytest.fixture
def photo() -> Tensor:
    """Stripes and spots in gray; half of their contrast is lost at `SIZE`."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(1, 1, 120, 155, generator=generator)
    stripes = (torch.arange(155) // 20 % 2).expand(1, 1, 120, 155)
    return (0.2 + 0.5 * stripes + 0.3 * spots).expand(1, 3, -1, -1)


@pytest.fixture
def small(photo: Tensor) -> Tensor:
    return resize(photo, *SIZE)


@pytest.mark.parametrize("slope", [1.0, 0.5, -1.0])
def test_a_picture_that_follows_the_photo_gets_its_details(photo: Tensor, small: Tensor, slope):
    made = enlarge(slope * small + 0.1, small, photo)
    wanted = slope * photo + 0.1
    blurred = resize(slope * small + 0.1, 120, 155)
    assert (made - wanted).abs().mean() < 0.15 * (blurred - wanted).abs().mean()


def test_a_picture_that_ignores_the_photo_gets_none(photo: Tensor, small: Tensor):
    level = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(1, 3, *SIZE)
    made = enlarge(level, small, photo)
    assert torch.allclose(made, level[..., :1, :1].expand_as(made), atol=1e-4)


def test_details_have_the_colors_of_the_picture(photo: Tensor, small: Tensor):
    """A gray drawing of a colorful photo stays gray."""
    tinted = photo * torch.tensor([1.0, 0.4, 0.7])[:, None, None]
    seen = resize(tinted, *SIZE)
    made = enlarge(luma(seen).expand_as(seen), seen, tinted)
    assert (made - made.mean(1, keepdim=True)).abs().max() < 1e-5


def test_it_also_reduces(photo: Tensor, small: Tensor):
    """Fine strokes are drawn on a picture larger than the photo."""
    made = enlarge(photo, photo, small)
    assert torch.allclose(made, small, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_smallest_pictures(photo: Tensor, size):
    seen = resize(photo, *size)
    assert enlarge(seen, seen, photo).isfinite().all()


def test_gradients(photo: Tensor):
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(1, 3, 5, 4, generator=generator, dtype=torch.float64)
    large = torch.rand(1, 3, 7, 9, generator=generator, dtype=torch.float64)
    restyled = torch.rand(1, 3, 5, 4, generator=generator, dtype=torch.float64)
    arguments = [value.requires_grad_() for value in (restyled, small, large)]
    assert torch.autograd.gradcheck(enlarge, arguments)
