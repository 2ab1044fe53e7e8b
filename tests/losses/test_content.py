from __future__ import annotations

import functools
import math

import pytest
import torch
from torch.nn.functional import normalize

from clipmamba.errors import InputError
from clipmamba.losses import (
    ColorDriftLoss,
    ContentLoss,
    ExcessTextureLoss,
    LayoutLoss,
    PatchNCELoss,
    color_drift_loss,
    content_loss,
    excess_texture_loss,
    layout_loss,
    patch_nce_loss,
)


def test_normalized_content_ignores_the_channels_means_and_deviations(draw):
    photo = draw(2, 4, 5, 6)
    restyled = 3 * photo + draw(1, 4, 1, 1)
    assert content_loss(restyled, photo, eps=0).item() == pytest.approx(0, abs=1e-12)
    assert content_loss(restyled, photo, normalized=False).item() > 1
    assert content_loss(-photo, photo, eps=0).item() == pytest.approx(4)


def test_plain_content_is_the_mean_squared_error_of_every_layer(draw):
    output, photo = [draw(2, 3, 4, 4), draw(2, 5, 2, 2)], [draw(2, 3, 4, 4), draw(2, 5, 2, 2)]
    expected = sum(((o - p) ** 2).mean().item() for o, p in zip(output, photo, strict=True))
    assert content_loss(output, photo, normalized=False).item() == pytest.approx(expected)
    assert ContentLoss(normalized=False)(output, photo).item() == pytest.approx(expected)
    assert content_loss(photo, photo).item() == 0
    assert content_loss(output, photo, reduction="none").shape == (2,)


@pytest.mark.parametrize("normalized", [True, False])
def test_content_gradcheck(draw, normalized):
    output, photo = draw(2, 3, 4, 5).requires_grad_(), draw(2, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda output, photo: content_loss([output], [photo], normalized), (output, photo)
    )


def test_content_needs_the_same_places(draw):
    with pytest.raises(InputError, match="same shape"):
        content_loss(draw(1, 2, 4, 4), draw(1, 2, 4, 5))


def test_layout_ignores_texture_and_hue_but_not_moved_light(pictures):
    photo = pictures(1, 64, 48)
    checkerboard = (torch.arange(64)[:, None] + torch.arange(48)) % 2 * 2.0 - 1
    textured = photo + 0.3 * checkerboard
    hue = torch.tensor([0.0722 / 0.2126, 0.0, -1.0])[:, None, None].double()
    dark_top = photo.clone()
    dark_top[:, :, :32] *= 0.5
    assert layout_loss(textured, photo, size=8).item() == pytest.approx(0, abs=1e-12)
    assert layout_loss(photo + 0.3 * hue, photo).item() == pytest.approx(0, abs=1e-12)
    assert layout_loss(dark_top, photo, size=8).item() > 0.02
    assert LayoutLoss(8)(dark_top, photo).item() == layout_loss(dark_top, photo, 8).item()


def test_layout_from_black_to_white_is_one():
    white = torch.ones(1, 3, 5, 70)
    assert layout_loss(white, torch.zeros_like(white)).item() == pytest.approx(1)
    assert layout_loss(white, white).item() == 0


def test_texture_is_free_where_the_photo_has_some(pictures):
    calm, grain = 0.5 * torch.ones(1, 3, 32, 32), pictures(1, 32, 32).float()
    assert excess_texture_loss(calm, grain).item() == 0
    assert excess_texture_loss(grain, grain).item() == 0
    assert excess_texture_loss(calm + 0.03 * (grain - 0.5), calm).item() == 0  # faint strokes
    half = torch.cat([grain[..., :16], calm[..., 16:]], dim=3)
    everywhere, elsewhere = excess_texture_loss(grain, calm), excess_texture_loss(grain, half)
    assert everywhere > 0.05
    assert 0.3 * everywhere < elsewhere < 0.7 * everywhere
    assert ExcessTextureLoss()(grain, calm).item() == everywhere.item()


def test_texture_is_contrast_not_light_and_half_at_most(pictures):
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    assert excess_texture_loss(ramp, 0 * ramp + 0.5).item() == 0
    stripes = (torch.arange(32) % 2).float().expand(1, 3, 32, 32)
    loss = excess_texture_loss(stripes, 0 * stripes, floor=0)
    assert loss.item() == pytest.approx(0.5, abs=0.01)


def test_texture_gradcheck(pictures):
    inputs = [pictures(1, 8, 8).requires_grad_(), 0.1 * pictures(1, 8, 8)]
    loss = functools.partial(excess_texture_loss, window=4)
    assert torch.autograd.gradcheck(loss, inputs)


def test_texture_refuses_windows_that_do_not_fit(pictures):
    for window in (1, 9):
        with pytest.raises(InputError, match="window must be from 2 to 8"):
            excess_texture_loss(pictures(1, 8, 9), pictures(1, 8, 9), window=window)


def test_colors_may_be_mapped_but_not_drift(pictures):
    photo = pictures(2, 32, 32)
    mapped = 0.2 + 0.7 * photo.flip(1)
    assert color_drift_loss(mapped, photo).item() < 1e-4
    tinted = mapped.clone()
    tinted[:, 0, :, 24:] += 0.5  # a red band at the right
    assert color_drift_loss(tinted, photo).item() > 0.01
    grain = 0.3 * (pictures(2, 32, 32) - 0.5)
    fine = (
        mapped
        + grain
        - torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(grain, 2), scale_factor=2)
    )
    assert color_drift_loss(fine, photo).item() < 1e-4  # texture is no drift
    assert ColorDriftLoss()(tinted, photo).item() == color_drift_loss(tinted, photo).item()


def test_drift_gradcheck(pictures):
    inputs = [pictures(1, 8, 8).requires_grad_(), pictures(1, 8, 8)]
    assert torch.autograd.gradcheck(lambda y, x: color_drift_loss(y, x, size=8), inputs)
    with pytest.raises(InputError, match="size"):
        color_drift_loss(*inputs, size=0)


def test_layout_gradcheck(pictures):
    inputs = (pictures(2, 9, 7).requires_grad_(), pictures(2, 9, 7).requires_grad_())
    assert torch.autograd.gradcheck(lambda y, x: layout_loss(y, x, size=4), inputs)


def test_patch_nce_knows_its_own_place(draw, generator):
    photo = draw(2, 16, 5, 5)
    order = torch.randperm(25, generator=generator)
    shuffled = photo.flatten(2)[:, :, order].view_as(photo)
    kept = patch_nce_loss(2 * photo, photo)
    assert kept < 0.01
    assert patch_nce_loss(shuffled, photo) > 2
    flat = torch.ones_like(photo)
    assert patch_nce_loss(flat, photo, generator=generator).item() > math.log(25) - 1e-9
    assert patch_nce_loss(flat, flat, 7).item() == pytest.approx(math.log(7))


def test_patch_nce_is_the_written_out_formula(draw):
    output, photo = [draw(1, 4, 2, 2), draw(1, 6, 1, 3)], [draw(1, 4, 2, 2), draw(1, 6, 1, 3)]
    expected = 0.0
    for f, t in zip(output, photo, strict=True):
        queries, keys = normalize(f.flatten(2)[0].T, dim=1), normalize(t.flatten(2)[0].T, dim=1)
        scores = (queries @ keys.T / 0.5).exp()
        for i in range(len(scores)):
            expected -= math.log(scores[i, i] / scores[i].sum()) / len(scores) / 2
    assert patch_nce_loss(output, photo, temperature=0.5).item() == pytest.approx(expected)


def test_patch_nce_negatives_come_from_the_same_picture_only(draw):
    output, photo = [draw(3, 8, 3, 3)], [draw(3, 8, 3, 3)]
    losses = patch_nce_loss(output, photo, reduction="none")
    for b in range(3):
        alone = patch_nce_loss(output[0][b : b + 1], photo[0][b : b + 1])
        assert alone.item() == pytest.approx(losses[b].item())
    assert PatchNCELoss()(output, photo).item() == pytest.approx(losses.mean().item())


def test_patch_nce_places_follow_the_seed(draw):
    output, photo = draw(1, 8, 6, 6), draw(1, 8, 6, 6)
    values = [
        patch_nce_loss(output, photo, 4, generator=torch.Generator().manual_seed(seed)).item()
        for seed in (0, 0, 1)
    ]
    assert values[0] == values[1] != values[2]


def test_patch_nce_gradcheck(draw):
    inputs = (draw(2, 4, 3, 2).requires_grad_(), draw(2, 4, 3, 2).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda y, x: patch_nce_loss(y, x, 5, 0.5, torch.Generator().manual_seed(0)), inputs
    )


def test_bad_arguments_are_refused(pictures, draw):
    with pytest.raises(InputError, match="size"):
        layout_loss(pictures(1, 4, 4), pictures(1, 4, 4), size=0)
    with pytest.raises(InputError, match="same shape"):
        layout_loss(pictures(1, 4, 4), pictures(1, 4, 5))
    with pytest.raises(InputError, match="num_patches"):
        patch_nce_loss(draw(1, 2, 3, 3), draw(1, 2, 3, 3), 0)
    with pytest.raises(InputError, match="temperature"):
        patch_nce_loss(draw(1, 2, 3, 3), draw(1, 2, 3, 3), temperature=-1)
