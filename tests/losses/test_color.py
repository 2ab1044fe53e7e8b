from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.errors import InputError
from clipmamba.losses.color import CELL, color_loss, recolor

ORANGE, BLUE, GRAY = (0.9, 0.5, 0.2), (0.2, 0.4, 0.8), (0.5, 0.5, 0.5)


def halves(left: tuple[float, ...], right: tuple[float, ...], side: int = 48) -> Tensor:
    image = torch.empty(1, 3, side, side)
    image[..., : side // 2] = torch.tensor(left)[:, None, None]
    image[..., side // 2 :] = torch.tensor(right)[:, None, None]
    return image


def colorful(count: int, side: int, seed: int = 0) -> Tensor:
    """Pictures of random colors, each with another mean and covariance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(3) + 0.5 * torch.rand(count, 3, 3, generator=generator)
    noise = torch.randn(count, 3, side * side, generator=generator)
    colors = 0.5 + 0.06 * mixing @ noise + 0.1 * torch.rand(count, 3, 1, generator=generator)
    return colors.view(count, 3, side, side)


def test_recolored_photos_have_the_moments_of_the_palettes():
    photos, palettes = colorful(3, 60).double(), colorful(3, 40, 1).double()
    got, wanted = (x.flatten(2) for x in (recolor(photos, palettes), palettes))
    torch.testing.assert_close(got.mean(2), wanted.mean(2))
    for a, b in zip(got, wanted, strict=True):
        # the photo's own spread is taken for a little larger than it is
        torch.testing.assert_close(a.cov(), b.cov(), atol=0, rtol=0.6)
        assert (a.cov().trace() < b.cov().trace()).item()


def test_a_photo_in_the_palette_already_hardly_moves():
    photo = colorful(1, 60)
    assert (recolor(photo, photo) - photo).abs().max() < 0.25 * (photo - 0.5).abs().max()


def test_each_color_belongs_where_the_photo_has_a_similar_one():
    photo = halves((0.8, 0.6, 0.5), (0.4, 0.5, 0.7))  # skin, sky
    style = halves(ORANGE, BLUE)
    right, wrong = (color_loss(x, photo, style).item() for x in (style, style.flip(3)))
    assert right < 0.1
    assert wrong > 0.3
    turned = color_loss(style.flip(3), photo.flip(3), style).item()
    assert turned == pytest.approx(right, abs=1e-5)


def test_patches_cost_and_fine_strokes_do_not():
    photo, style = halves(GRAY, GRAY), halves(ORANGE, BLUE)
    even = style.mean((2, 3), keepdim=True).expand_as(photo)
    assert color_loss(even, photo, style) < 1e-3
    patches = halves(ORANGE, BLUE)
    strokes = even + 0.3 * (torch.arange(48) % 2 - 0.5)
    assert color_loss(patches, photo, style) > 0.2
    assert color_loss(strokes, photo, style) < 1e-3


def test_a_gray_photo_keeps_gray_from_becoming_noise():
    noise = 0.002 * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    moved = recolor(0.5 + noise, halves(ORANGE, BLUE))
    assert avg_pool2d(moved, CELL).std((2, 3)).max() < 0.02


def test_reductions_and_gradient():
    photos, styles = colorful(2, 40), colorful(2, 64, 1)
    outputs = colorful(2, 40, 2).requires_grad_()
    each = color_loss(outputs, photos, styles, "none")
    assert each.shape == (2,)
    torch.testing.assert_close(color_loss(outputs, photos, styles), each.mean())
    alone = [color_loss(*(x[i : i + 1] for x in (outputs, photos, styles))) for i in range(2)]
    torch.testing.assert_close(each, torch.stack(alone))
    each.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad.any()


def test_what_are_no_pictures_is_refused():
    with pytest.raises(InputError, match="pictures"):
        color_loss(*[torch.rand(3, 8, 8)] * 3)
