from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipmamba.nn import PictureMoments
from clipmamba.nn.stages import Grain, ShuffleUp, StyledConv


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("stride", "size"), [(1, (7, 9)), (2, (4, 5))])
def test_a_styled_convolution_halves_or_keeps_the_size(normalize, stride, size):
    stage = StyledConv(3, 5, 8, stride, normalize)
    assert stage(torch.randn(2, 3, 7, 9), torch.randn(2, 8)).shape == (2, 5, *size)


def test_only_the_normalised_stage_forgets_contrast():
    x, code = torch.randn(1, 3, 12, 12), torch.randn(1, 8)
    for normalize in (False, True):
        stage = StyledConv(3, 5, 8, normalize=normalize)
        plain, strong = stage(x, code), stage(3 * x, code)
        assert torch.allclose(plain, strong, atol=1e-3) == normalize


def test_a_styled_convolution_reads_the_moments_of_the_whole():
    stage = StyledConv(3, 5, 8, normalize=True)
    x, code = torch.randn(1, 3, 16, 16) * torch.linspace(0.2, 2, 16), torch.randn(1, 8)
    whole = PictureMoments()
    expected = stage(x, code, whole)[..., :7, :7]
    torch.testing.assert_close(stage(x[..., :8, :8], code, whole)[..., :7, :7], expected)
    assert (stage(x[..., :8, :8], code)[..., :7, :7] - expected).abs().max() > 0.1


def test_upsampling_starts_without_a_checkerboard():
    x = torch.randn(2, 6, 5, 7)
    up = ShuffleUp(6, 4)
    finer = up(x)
    assert finer.shape == (2, 4, 10, 14)
    assert torch.equal(finer, F.interpolate(finer[..., ::2, ::2], scale_factor=2))
    finer.square().sum().backward()
    assert up.conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        up.conv.weight += torch.randn_like(up.conv.weight)
    finer = up(x)  # trained, the four places may differ
    assert not torch.allclose(finer[..., ::2, ::2], finer[..., 1::2, ::2])


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
