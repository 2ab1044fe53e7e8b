from __future__ import annotations

import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.losses import PatchDiscriminator, adversarial_loss, discriminator_loss
from clipmamba.losses.adversarial import FeatureDiscriminator


def test_scores_are_told_apart_at_one_and_zero():
    ones, zeros = torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 2
    assert adversarial_loss(ones) == 0
    assert adversarial_loss(zeros) == 1


def test_losses_of_single_samples_make_the_mean():
    scores = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert adversarial_loss(scores, reduction="none").tolist() == [1, 1]
    assert discriminator_loss(scores, scores, reduction="none").tolist() == [1, 5]
    assert discriminator_loss(scores, scores) == 3
    with pytest.raises(InputError, match="reduction"):
        adversarial_loss(scores, reduction="median")  # type: ignore[arg-type]


def test_gradients_agree_with_differences():
    scores = torch.randn(2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(adversarial_loss, scores)
    assert torch.autograd.gradcheck(discriminator_loss, (scores, other))


def test_a_discriminator_learns_what_a_style_makes_of_a_photo():
    """Style 0 keeps the photo, style 1 inverts it: neither picture alone tells which is right."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(2, width=8)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    styles = torch.eye(2).repeat(4, 1)

    def scores() -> tuple[torch.Tensor, torch.Tensor]:
        photo = torch.rand(8, 3, 1, 1).expand(8, 3, 32, 32)
        kept = styles[:, :1, None, None]
        right = kept * photo + (1 - kept) * (1 - photo)
        return judge(right, photo, styles), judge(1 - right, photo, styles)

    for _ in range(250):
        optimizer.zero_grad()
        discriminator_loss(*scores()).backward()
        optimizer.step()
    right, wrong = scores()
    assert right.shape == (8, 1, 3, 3)
    assert right.mean() > wrong.mean() + 0.4


def test_a_feature_discriminator_learns_the_patterns_of_a_style():
    """Stripes run along x in style 0, along y in style 1; the means are the same for both."""
    torch.manual_seed(0)
    judge = FeatureDiscriminator(4, width=16)
    optimizer = torch.optim.Adam(judge.parameters(), 5e-3)
    mean = torch.full((8, 4), 0.5)
    deviation = torch.eye(2).repeat(4, 2) + 0.5  # tells the styles apart
    along = torch.arange(2).repeat(4) == 0

    def scores() -> tuple[torch.Tensor, torch.Tensor]:
        phase = torch.randint(2, (8, 4, 1))
        stripes = ((torch.arange(12) + phase) % 2).float()
        across = stripes[:, :, None, :].expand(-1, -1, 12, -1)
        right = torch.where(along[:, None, None, None], across, across.transpose(2, 3))
        return judge(right, mean, deviation), judge(right.transpose(2, 3), mean, deviation)

    for _ in range(200):
        optimizer.zero_grad()
        discriminator_loss(*scores()).backward()
        optimizer.step()
    right, wrong = scores()
    assert right.shape == (8, 1, 8, 8)
    assert (right.mean((1, 2, 3)) > wrong.mean((1, 2, 3)) + 0.4).all()


def test_a_feature_discriminator_sees_features_in_units_of_the_style():
    torch.manual_seed(0)
    judge = FeatureDiscriminator(4).eval()
    features, mean, deviation = torch.rand(2, 4, 6, 7), torch.rand(2, 4), torch.rand(2, 4)
    scores = judge(features, mean, deviation)
    torch.testing.assert_close(judge(3 * features, 3 * mean, 3 * deviation), scores)
    assert not torch.allclose(judge(features, mean, 3 * deviation), scores, atol=1e-3)
