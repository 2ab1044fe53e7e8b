from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from clipmamba.errors import InputError
from clipmamba.losses import DirectionalLoss, directional_loss


def test_perfect_edit_costs_nothing_and_the_opposite_costs_two(draw):
    direction = draw(4, 8)
    assert directional_loss(direction, direction).item() == pytest.approx(0, abs=1e-12)
    assert directional_loss(3 * direction, 0.2 * direction).item() == pytest.approx(0, abs=1e-12)
    assert directional_loss(-direction, direction).item() == pytest.approx(2)


def test_an_edit_across_costs_one():
    across = directional_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert across.item() == pytest.approx(1)


def test_gradcheck(draw):
    inputs = (draw(3, 5).requires_grad_(), draw(3, 5).requires_grad_())
    assert torch.autograd.gradcheck(directional_loss, inputs)


def test_an_output_equal_to_its_photo_has_a_finite_gradient_towards_the_style(draw):
    untouched = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    style = draw(2, 8)
    loss = directional_loss(untouched, style, eps=1e-2)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    step = -untouched.grad
    assert torch.allclose(normalize(step, dim=-1), normalize(style, dim=-1))
    assert step.norm(dim=-1).max() <= 1 / 1e-2 / 2 + 1e-9  # 1 / eps, over a batch of 2


def test_reductions_and_one_style_for_all(draw):
    images, style = draw(3, 8), draw(8)
    losses = directional_loss(images, style, reduction="none")
    assert losses.shape == (3,)
    for row, loss in zip(images, losses, strict=True):
        assert directional_loss(row[None], style[None]).item() == pytest.approx(loss.item())
    assert directional_loss(images, style).item() == pytest.approx(losses.mean().item())
    assert directional_loss(images, style, "sum").item() == pytest.approx(losses.sum().item())


def test_module_takes_embeddings(draw):
    output, photo, style, source = (normalize(draw(3, 8), dim=-1) for _ in range(4))
    expected = directional_loss(output - photo, style - source)
    assert DirectionalLoss()(output, photo, style, source).item() == expected.item()


def test_module_subtracts_in_float32(draw):
    photo = normalize(draw(1, 64, dtype=torch.float32), dim=-1).bfloat16()
    style = draw(1, 64, dtype=torch.float32).bfloat16()
    output = photo.clone()
    output[0, 0] += 0.25  # exact in bfloat16 or not, the difference must be taken as stored
    direction = output.float() - photo.float()
    loss = DirectionalLoss()(output, photo, style, torch.zeros_like(style))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(directional_loss(direction, style.float()).item())


def test_autocast_does_not_cost_digits(draw):
    image, style = draw(4, 16, dtype=torch.float32), draw(4, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = directional_loss(image, style)
    assert torch.equal(inside, directional_loss(image, style))


def test_embeddings_of_two_clips_are_refused(draw):
    with pytest.raises(InputError, match="same CLIP"):
        directional_loss(draw(2, 8), draw(2, 9))


def test_unknown_reduction_is_refused(draw):
    with pytest.raises(InputError, match="reduction"):
        directional_loss(draw(2, 8), draw(2, 8), reduction="average")
