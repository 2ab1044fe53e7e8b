"""Colours from outside sRGB: inside afterwards, of the same hue, and still apart."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.models.gamut import into_gamut


def colours(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rows).T[None, :, None]


def test_colours_well_inside_stay() -> None:
    picture = 0.2 + 0.6 * torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    grey = picture.mean(1, keepdim=True)
    picture = grey + 0.4 * (picture - grey)
    torch.testing.assert_close(into_gamut(picture), picture, rtol=0, atol=1e-6)


def test_whatever_comes_lands_inside_and_off_the_ends() -> None:
    picture = 0.5 + 2 * torch.randn(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    result = into_gamut(picture)
    assert result.min() >= 0
    assert result.max() <= 1
    pixels = (result * 255).round()
    low, high = pixels.amin(1), pixels.amax(1)
    assert not ((high == 255) & (low < 250)).any()


def test_a_cut_would_make_one_of_these_here_they_stay_apart_in_order() -> None:
    reds = colours((1.0, 0.1, 0.1), (1.2, 0.1, 0.1), (1.6, 0.1, 0.1))
    blacks = colours((0.0, 0.0, 0.0), (-0.05, -0.05, -0.05), (-0.2, -0.2, -0.2))
    assert (into_gamut(reds)[0, 1].diff().abs() > 4 / 255).all()
    shadows = into_gamut(blacks)[0, 0, 0] * 255
    assert (shadows.diff() < -0.5).all()
    assert shadows[0] < 5


def test_hue_and_brightness_stay() -> None:
    orange = colours((1.5, 0.6, -0.1))
    result = into_gamut(orange)
    brightness, expected = result.mean(), orange.mean()
    torch.testing.assert_close(brightness, expected, rtol=0, atol=1e-5)
    around, before = result - brightness, orange - expected
    assert torch.cosine_similarity(around.flatten(), before.flatten(), dim=0) > 0.99999


def test_white_paper_is_white() -> None:
    assert (into_gamut(torch.full((1, 3, 2, 2), 1.3)) == 1).all()


def test_gradients_are_finite_and_not_lost_outside() -> None:
    picture = torch.linspace(-1, 2, 3 * 8 * 8).view(1, 3, 8, 8).requires_grad_()
    grey = torch.zeros(1, 3, 4, 4, requires_grad=True)
    for given in (picture, grey):
        [gradient] = torch.autograd.grad(into_gamut(given).square().sum(), given)
        assert gradient.isfinite().all()
    red = colours((1.6, 0.1, 0.1)).requires_grad_()
    [gradient] = torch.autograd.grad(into_gamut(red)[0, 1].sum(), red)
    assert gradient.abs().max() > 0.01


def test_the_distance_to_the_boundary_is_that_of_the_worst_channel() -> None:
    """The same map, channel by channel, in double precision."""
    picture = 0.5 + torch.randn(1, 3, 60, 60, generator=torch.Generator().manual_seed(0)).double()
    gray = picture.mean(1, keepdim=True)
    toe = 0.03**2 / (0.06 - gray.clamp(max=0.03))
    light = (toe + (gray - 0.03).clamp(min=0)).clamp(max=1)
    color = picture - gray
    room = torch.where(color > 0, 253.4 / 255 - light, light).clamp(min=1e-4)
    part = (color.abs() / room).amax(1, keepdim=True)
    bent = 0.9 + 0.1 * (part - 0.9) / (part - 0.8)
    gain = torch.where(part > 0.9, bent, part) / part
    expected = (light + color * gain).clamp(0, 1)
    torch.testing.assert_close(into_gamut(picture), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(into_gamut(picture.float()), expected.float(), rtol=0, atol=1e-4)
