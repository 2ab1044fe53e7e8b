from __future__ import annotations

import pytest
import torch

from clipmamba.nn import (
    PictureMoments,
    StyleAffine,
    StyleBlock,
    StyleNorm,
    Surveyed,
    TileMoments,
)

CODE = 6


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_style_norm_gives_the_styles_mean_and_deviation_whatever_comes_in():
    norm = StyleNorm(4, CODE)
    code = torch.randn(2, CODE)
    scale, shift = norm.to_affine(code).chunk(2, dim=1)
    for x in (torch.randn(2, 4, 16, 16), 3 * torch.rand(2, 4, 8, 24) + 5):
        out = norm(x, code)
        torch.testing.assert_close(out.mean((2, 3)), shift, rtol=0, atol=1e-4)
        deviation = out.std((2, 3), correction=0)
        torch.testing.assert_close(deviation, (1 + scale).abs(), rtol=1e-2, atol=1e-3)


def test_style_norm_of_a_flat_map_is_the_shift():
    norm = StyleNorm(4, CODE)
    code = torch.randn(1, CODE)
    shift = norm.to_affine(code)[:, 4:, None, None]
    out = norm(torch.full((1, 4, 3, 3), 7.0), code)
    torch.testing.assert_close(out, shift.expand_as(out), rtol=0, atol=1e-3)


def test_style_affine_keeps_the_photos_own_brightness():
    affine = StyleAffine(4, CODE)
    code = torch.randn(2, CODE)
    scale, shift = affine.to_affine(code)[:, :, None, None].chunk(2, dim=1)
    x = torch.randn(2, 4, 5, 6) + 3
    torch.testing.assert_close(affine(x, code), x * (1 + scale) + shift)


@pytest.mark.parametrize("mixer", ["mamba", "attention", "conv"])
def test_a_block_depends_on_its_code(mixer: str):
    block = StyleBlock(8, CODE, mixer, state=4)
    x = torch.randn(1, 5, 3, 8)
    one, two = block(x, torch.randn(1, CODE)), block(x, torch.randn(1, CODE))
    assert one.shape == x.shape
    assert (one - two).abs().max() > 1e-3


def test_moments_gathered_from_tiles_are_those_of_the_whole() -> None:
    norm = StyleNorm(3, CODE)
    picture = 5 + torch.randn(2, 3, 16, 48)
    picture[..., 30:] *= 3  # no tile is like the whole
    rise, full = (torch.arange(16) + 0.5) / 16, torch.ones(16)
    gathering = TileMoments(PictureMoments())
    for start, weights in ((0, [full, 1 - rise]), (16, [rise, full])):  # fade into each other
        pixels = torch.cat(weights).repeat_interleave(2)  # the map is half as large as the tile
        gathering.begin(pixels.expand(32, -1))
        with pytest.raises(Surveyed):
            gathering.of(norm, picture[..., start : start + 32])
    expected = PictureMoments().of(norm, picture)
    torch.testing.assert_close(gathering.gathered()[norm], expected)
    known = TileMoments(gathering.gathered())
    torch.testing.assert_close(known.of(norm, picture[..., :9]), expected)  # whatever comes in
