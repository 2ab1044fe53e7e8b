from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipmamba.nn import Grain, PictureMoments, SmoothUp, StyledConv


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("stride", "size"), [(1, (7, 9)), (2, (4, 5))])
def test_a_styled_convolution_halves_or_keeps_the_size(stride, size):
    stage = StyledConv(3, 5, 8, stride)
    assert stage(torch.randn(2, 3, 7, 9), torch.randn(2, 8)).shape == (2, 5, *size)


def test_a_styled_convolution_draws_alike_whatever_the_photos_contrast():
    conv = StyledConv(3, 5, 8)
    x, code = torch.randn(1, 3, 12, 12), torch.randn(1, 8)
    torch.testing.assert_close(conv(3 * x, code), conv(x, code), rtol=1e-2, atol=1e-3)
    assert (conv(x, -code) - conv(x, code)).abs().max() > 1e-2


def test_a_styled_convolution_reads_the_moments_of_the_whole():
    stage = StyledConv(3, 5, 8)
    x, code = torch.randn(1, 3, 16, 16) * torch.linspace(0.2, 2, 16), torch.randn(1, 8)
    whole = PictureMoments()
    expected = stage(x, code, whole)[..., :7, :7]
    torch.testing.assert_close(stage(x[..., :8, :8], code, whole)[..., :7, :7], expected)
    assert (stage(x[..., :8, :8], code)[..., :7, :7] - expected).abs().max() > 0.1


def test_upsampling_is_smooth_and_keeps_flat_maps_flat():
    up = SmoothUp(6, 4)
    x = torch.randn(2, 6, 5, 7)
    expected = F.interpolate(up.conv(x), scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(up(x), expected)
    flat = up(torch.full((1, 6, 4, 5), 0.7))
    torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))


def test_the_style_says_how_much_grain():
    grain = Grain(4, 6, 8)
    x, noise = torch.randn(2, 6, 5, 7), torch.randn(1, 4, 5, 7)
    code = torch.randn(2, 8)
    added = grain(x, noise, code) - x
    assert added.abs().amax((1, 2, 3)).min() > 0.01
    assert not torch.allclose(added[0], added[1])  # one noise, two styles
    torch.testing.assert_close(grain(x, 2 * noise, code) - x, 2 * added)
    with torch.no_grad():
        grain.to_gain.weight.zero_()
        grain.to_gain.bias.zero_()
    assert torch.equal(grain(x, noise, code), x)  # a print does without


@torch.no_grad()
def test_the_power_of_grain_is_the_variance_that_it_adds():
    grain = Grain(4, 6, 8)
    code, noise = torch.randn(2, 8), torch.randn(1, 4, 300, 300)
    added = grain(torch.zeros(2, 6, 300, 300), noise, code)
    torch.testing.assert_close(grain.power(code), added.var((2, 3)).mean(1), rtol=0.03, atol=0)
