from __future__ import annotations

import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.losses import PatchDiscriminator, adversarial_loss, discriminator_loss


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
