"""The two losses on bare pixels: identity and total variation."""

from __future__ import annotations

import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.losses import (
    IdentityLoss,
    TotalVariationLoss,
    identity_loss,
    total_variation_loss,
)


def test_identity_is_the_mean_absolute_difference(pictures):
    photo = pictures(2, 5, 4)
    assert identity_loss(photo, photo).item() == 0
    changed = photo.clone()
    changed[1] += 0.5
    assert identity_loss(changed, photo, reduction="none").tolist() == pytest.approx([0, 0.5])
    assert IdentityLoss()(changed, photo).item() == pytest.approx(0.25)


def test_identity_gradcheck(pictures):
    inputs = (pictures(2, 3, 4).requires_grad_(), pictures(2, 3, 4).requires_grad_())
    assert torch.autograd.gradcheck(identity_loss, inputs)


def test_plain_surface_has_no_total_variation_and_noise_has():
    assert total_variation_loss(torch.full((2, 3, 6, 5), 0.3)).item() == 0
    stripes = (torch.arange(6) % 2).float().expand(1, 3, 5, 6)
    assert total_variation_loss(stripes).item() == pytest.approx(1)
    checkerboard = ((torch.arange(6)[:, None] + torch.arange(5)) % 2).float().expand(1, 3, 6, 5)
    assert total_variation_loss(checkerboard).item() == pytest.approx(2)


def test_total_variation_of_a_ramp_is_its_slope_at_any_size():
    for width in (8, 64):
        ramp = (0.01 * torch.arange(width)).expand(1, 3, 10, width)
        assert TotalVariationLoss()(ramp).item() == pytest.approx(0.01, rel=1e-4)


def test_total_variation_of_one_pixel_lines_is_a_number():
    assert total_variation_loss(torch.rand(1, 3, 1, 1)).item() == 0
    line = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    assert total_variation_loss(line).item() == 1


def test_total_variation_gradcheck(pictures):
    assert torch.autograd.gradcheck(total_variation_loss, (pictures(2, 3, 4).requires_grad_(),))


def test_samples_are_judged_one_by_one(pictures):
    images = pictures(3, 5, 6)
    losses = total_variation_loss(images, reduction="none")
    assert losses.shape == (3,)
    assert total_variation_loss(images[1:2]).item() == pytest.approx(losses[1].item())


def test_things_that_are_no_pictures_are_refused(pictures):
    with pytest.raises(InputError, match="pictures must be"):
        total_variation_loss(torch.rand(3, 4, 4))
    with pytest.raises(InputError, match="same shape"):
        identity_loss(pictures(1, 4, 4), pictures(1, 4, 5))
