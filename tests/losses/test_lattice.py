from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.losses.lattice import lattice_loss


def noise(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(seed))


def wave(period: float, height: int = 128, width: int = 128) -> Tensor:
    row = 0.5 + 0.1 * torch.sin(2 * math.pi * (torch.arange(width) + 0.5) / period)
    return row.expand(2, 3, height, width).clone()


@pytest.mark.parametrize("period", [2, 4])
def test_a_lattice_costs_in_either_direction(period: int):
    cost = lattice_loss(wave(period))
    assert cost > 1e-3
    torch.testing.assert_close(lattice_loss(wave(period).mT), cost)


@pytest.mark.parametrize("period", [3.0, 5.3, 9.0, 40.0])
def test_other_patterns_cost_little(period: float):
    assert abs(lattice_loss(wave(period)).item()) < 0.05 * lattice_loss(wave(4)).item()


def test_texture_without_a_lattice_costs_nothing_on_average():
    fine = torch.stack([lattice_loss(0.2 * noise(seed)) for seed in range(8)]).mean()
    assert abs(fine.item()) < 0.02 * lattice_loss(wave(4)).item()


@pytest.mark.parametrize("pattern", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("strength", [0.05, 0.4])
def test_more_detail_never_pays(pattern: float, strength: float):
    fine = strength * (noise() - 0.5)
    factor = torch.ones((), requires_grad=True)
    cost = lattice_loss(0.5 + pattern * (wave(4) - 0.5) + factor * fine)
    (gradient,) = torch.autograd.grad(cost, factor)
    assert cost >= 0
    assert gradient >= 0


def test_reductions_and_odd_sizes_agree():
    each = lattice_loss(wave(4, 35, 33), "none")
    assert each.shape == (2,)
    assert each.min() > 1e-3
    torch.testing.assert_close(lattice_loss(wave(4, 35, 33)), each.mean())


def test_gradients_take_the_lattice_away():
    picture = (wave(4) + 0.1 * noise()).requires_grad_()
    before = lattice_loss(picture)
    (gradient,) = torch.autograd.grad(before, picture)
    after = lattice_loss(picture.detach() - 0.5 * gradient * gradient.numel() / 100)
    assert after < before


def test_what_is_no_batch_is_refused():
    with pytest.raises(InputError):
        lattice_loss(torch.rand(3, 64, 64))
