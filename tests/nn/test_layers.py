from __future__ import annotations

import pytest
import torch

from clipmamba.nn import (
    ConvStage,
    Head,
    PictureMoments,
    Stem,
    StyleAffine,
    StyleBlock,
    StyleNorm,
    StyleProjection,
    StyleUpsample,
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


def test_style_projection_sees_unit_points_at_unit_variance():
    points = torch.nn.functional.normalize(torch.randn(2, 64), dim=1)
    projection = StyleProjection(64, CODE)
    assert (points * projection.scale).square().mean().item() == pytest.approx(1, abs=1e-5)
    first, second = projection(points)
    assert (first - second).abs().max() > 1e-2


def test_guidance_drives_codes_away_from_the_middle_of_all():
    points = torch.nn.functional.normalize(torch.randn(9, 64), dim=1)
    projection = StyleProjection(64, CODE)
    plain = projection(points).detach()
    projection.guide(points, 1.5)
    guided = projection(points)
    torch.testing.assert_close(guided.mean(0), plain.mean(0))
    torch.testing.assert_close(guided - plain, 0.5 * (plain - plain.mean(0)))
    projection.guide(points, 1.0)
    assert torch.equal(projection(points), plain)


def test_the_style_decides_between_smooth_and_blocks():
    upsample = StyleUpsample(3, CODE)
    x, code = torch.randn(2, 3, 4, 5), torch.randn(2, CODE)
    torch.nn.init.zeros_(upsample.to_blockiness.weight)
    smooth = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(upsample(x, code), smooth)
    torch.nn.init.ones_(upsample.to_blockiness.bias)
    blocks = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(upsample(x, code), blocks)
    torch.nn.init.normal_(upsample.to_blockiness.weight)
    one, two = upsample(x[:1].expand(2, -1, -1, -1), code)
    assert (one - two).abs().max() > 1e-2  # each picture by its own style


@pytest.mark.parametrize("mixer", ["mamba", "attention", "conv"])
def test_a_block_depends_on_its_code(mixer: str):
    block = StyleBlock(8, CODE, mixer, state=4)
    x = torch.randn(1, 5, 3, 8)
    one, two = block(x, torch.randn(1, CODE)), block(x, torch.randn(1, CODE))
    assert one.shape == x.shape
    assert (one - two).abs().max() > 1e-3


def test_the_stem_goes_down_to_an_eighth_and_the_head_comes_back():
    code = torch.randn(2, CODE)
    photo = torch.rand(2, 3, 16, 24)
    maps = Stem((4, 5, 6), CODE, 2)(photo, torch.randn(1, 2, 8, 12), code)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 8, 12), (2, 5, 4, 6), (2, 6, 2, 3)]
    assert Head(4, 8, CODE)(maps[0], photo, code).shape == photo.shape


def test_the_stem_sees_its_noise():
    stem = Stem((4, 5, 6), CODE, 2)
    code, photo = torch.randn(2, CODE), torch.rand(2, 3, 16, 24)
    noise = torch.randn(2, 2, 8, 12)
    both = stem(photo, noise, code)
    shared = stem(photo, noise[:1], code)  # one row serves all
    for map_, other in zip(both, shared, strict=True):
        torch.testing.assert_close(map_[0], other[0], rtol=1e-4, atol=1e-5)
        assert (map_[1] - other[1]).abs().max() > 1e-3


def test_a_stage_has_no_dark_border():
    """Replicated borders: a flat picture stays flat to its edge."""
    out = ConvStage(3, 4, CODE)(torch.full((1, 3, 8, 8), 0.7), torch.randn(1, CODE))
    torch.testing.assert_close(out, out[..., :1, :1].expand_as(out), rtol=0, atol=1e-3)


def test_moments_gathered_from_tiles_are_those_of_the_whole() -> None:
    norm = StyleNorm(3, CODE)
    picture = 5 + torch.randn(2, 3, 16, 48)
    picture[..., 30:] *= 3  # no tile is like the whole
    rise, full = (torch.arange(16) + 0.5) / 16, torch.ones(16)
    gathering = TileMoments(PictureMoments())
    for start, weights in ((0, [full, 1 - rise]), (16, [rise, full])):  # fade into each other
        pixels = torch.cat(weights).repeat_interleave(2)  # the map is half as large as the tile
        gathering.begin(pixels.expand(32, -1))
        gathering.of(norm, picture[..., start : start + 32])
    expected = PictureMoments().of(norm, picture)
    torch.testing.assert_close(gathering.gathered()[norm], expected)
