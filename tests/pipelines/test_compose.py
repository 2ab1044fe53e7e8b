"""Colors of the photo in the restyled picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipmamba.io.convert import luma
from clipmamba.pipelines.compose import lift_contrast, mix_color, with_photo_color
from clipmamba.styles import Style

SIZES = [(1, 1), (3, 200), (64, 64), (37, 90), (600, 300)]


def plain(*color: float, size: tuple[int, int] = (48, 40)) -> torch.Tensor:
    return torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, *size).clone()


@pytest.mark.parametrize("size", SIZES)
def test_colors_that_agree_stay(size: tuple[int, int]):
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mix_color(picture, picture, 0.6), picture)


@pytest.mark.parametrize("size", SIZES)
def test_only_colors_are_mixed_and_light_stays(size: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    restyled, photo = (0.3 + 0.4 * torch.rand(2, 3, *size, generator=generator) for _ in "ab")
    mixed = mix_color(restyled, photo, 0.4)
    inside = ((mixed > 0) & (mixed < 1)).all(1, keepdim=True)
    assert inside.float().mean() > 0.7
    torch.testing.assert_close(luma(mixed)[inside], luma(restyled)[inside])
    assert (mixed - restyled).abs().mean() > 0.02
    torch.testing.assert_close(mix_color(restyled, photo, 0.0), restyled)


def test_the_photos_hue_counts_most_where_the_style_has_the_opposite():
    """Skin that becomes green turns back to skin; a warm hue that becomes warmer stays."""
    skin = plain(0.8, 0.6, 0.5)
    green, orange = plain(0.5, 0.7, 0.55), plain(0.85, 0.6, 0.3)

    def redness(picture: torch.Tensor) -> float:
        return float((picture[:, 0] - picture[:, 1]).mean())

    kept = [redness(mix_color(each, skin, 0.6)) - redness(each) for each in (green, orange)]
    assert redness(mix_color(green, skin, 0.6)) > 0
    assert kept[0] > 0.2
    assert abs(kept[1]) < 0.05


def test_a_gray_photo_takes_color_out_only_in_part():
    colored = plain(0.8, 0.5, 0.4)
    mixed = mix_color(colored, plain(0.5, 0.5, 0.5), 0.6)
    spread = [float(each.max() - each.min()) for each in (mixed, colored)]
    assert spread[0] == pytest.approx(0.4 * spread[1], rel=1e-4)


def test_gradients_are_finite_without_any_color():
    restyled = plain(0.5, 0.5, 0.5).requires_grad_()
    photo = plain(0.2, 0.2, 0.2).requires_grad_()
    with_photo_color(restyled, photo, None, 0.6).square().sum().backward()
    assert restyled.grad.isfinite().all()
    assert photo.grad.isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_a_dim_picture_gets_contrast_and_light_back_in_part(size: tuple[int, int]):
    photo = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(1, 3, 4, 4)
    photo = torch.nn.functional.interpolate(0.3 + 0.5 * photo, size)
    dim = 0.2 + 0.4 * (photo - photo.mean())
    lifted = lift_contrast(dim, photo, 0.6)
    assert torch.equal(lift_contrast(dim, photo, 0.0), dim)
    if min(size) > 20:
        assert 1.25 * dim.std() < lifted.std() < 0.8 * photo.std()
    assert dim.mean() - 1e-6 <= lifted.mean() < photo.mean()
    if size != (1, 1):  # no contrast: nothing is dim
        assert lifted.mean() > dim.mean() + 0.05


def test_contrast_has_no_jump_where_a_picture_becomes_dim():
    photo = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    shares = torch.linspace(0.5, 0.85, 61)  # dim below 1 / 1.3
    means = [lift_contrast(share * (photo - 0.5) + 0.3, photo, 0.6).mean() for share in shares]
    steps = torch.stack(means).diff().abs()
    assert steps.max() < 0.01
    assert means[0] > means[-1] + 0.05


def test_a_picture_that_is_not_dim_stays_and_the_others_of_its_batch_do_not_matter():
    photo = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    pale = 0.8 + 0.8 * (photo - 0.5)
    assert torch.equal(lift_contrast(pale, photo, 0.6), pale)
    both = lift_contrast(torch.stack([pale[0], 0.4 + 0.3 * (photo[1] - 0.5)]), photo, 0.6)
    torch.testing.assert_close(both[0], pale[0].clamp(0, 1))
    assert both[1].std() > 0.35 * photo[1].std()


def test_the_option_overrules_the_style():
    restyled, photo = torch.rand(2, 1, 3, 16, 16).unbind()
    assert torch.equal(with_photo_color(restyled, photo, False, 0.6), restyled)
    assert torch.equal(with_photo_color(restyled, photo, None, 0.0), restyled)
    mixed = with_photo_color(restyled, photo, None, 0.6)
    torch.testing.assert_close(mixed, mix_color(lift_contrast(restyled, photo, 0.6), photo, 0.6))
    muted = 0.3 + 0.4 * photo  # its colors fit with any brightness of these
    kept = with_photo_color(0.4 + 0.2 * restyled, muted, True, 0.0)
    torch.testing.assert_close(kept - luma(kept), muted - luma(muted))
    assert with_photo_color(restyled, photo, True, 0.0).min() >= 0


def test_by_default_a_technique_keeps_colors_and_a_palette_does_not(tiny_pipeline, photo):
    def made(style: Style, **options: bool) -> np.ndarray:
        return np.asarray(tiny_pipeline(photo, style=style, **options).images[0], float)

    for words, differ in (("watercolor", True), ("ukiyo-e", False)):
        style = Style.text(words, tiny_pipeline.clip, tiny_pipeline.prior)
        own = made(style, preserve_color=False)
        assert (np.abs(made(style) - own).mean() > 1) == differ
        asked = np.asarray(tiny_pipeline(photo, prompt=words).images[0], float)
        np.testing.assert_array_equal(asked, made(style))
