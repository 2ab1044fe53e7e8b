"""Edges count by their places, not by their strength or color."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.errors import InputError
from clipmamba.losses.edges import edge_loss


def picture(seed: int = 0, side: int = 48) -> Tensor:
    """Random blocks with sharp borders."""
    blocks = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return blocks.repeat_interleave(side // 6, 2).repeat_interleave(side // 6, 3)


def test_edges_at_their_places_cost_nothing_whatever_their_strength() -> None:
    photo = picture()
    assert edge_loss(photo, photo) == pytest.approx(0, abs=1e-4)
    assert edge_loss(0.4 * photo + 0.3, photo) == pytest.approx(0, abs=1e-2)
    assert edge_loss(1 - photo, photo) == pytest.approx(0, abs=1e-3)


def test_what_is_worse_costs_more() -> None:
    photo = picture()
    soft = avg_pool2d(photo, 5, 1, 2, count_include_pad=False)
    losses = [edge_loss(p, photo) for p in (photo, soft, photo.roll(4, 3), picture(seed=1))]
    assert sorted(losses) == losses
    assert losses[1] < 0.5 < losses[3]
    even = torch.full_like(photo, 0.5)
    assert edge_loss(even, photo) == pytest.approx(1, abs=1e-2)
    assert edge_loss(even, even).isfinite()


def test_each_picture_of_a_batch_has_its_own() -> None:
    photos = torch.cat([picture(), picture(seed=1)])
    losses = edge_loss(photos.flip(0), photos, reduction="none")
    assert losses.shape == (2,)
    assert losses[0] == edge_loss(photos[1:], photos[:1], reduction="none")[0]


def test_gradient_is_right_in_double() -> None:
    photo, other = picture(side=12).double(), (0.9 * picture(1, 12) + 0.02).double()
    other = (other + 0.05 * torch.rand(other.shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: edge_loss(y, photo), (other,))


@pytest.mark.parametrize("shape", [(1, 3, 3, 9), (1, 1, 9, 9), (1, 3, 9, 8)])
def test_what_has_no_edges_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        edge_loss(torch.rand(shape), torch.rand(1, 3, 9, 9) if shape[2] > 3 else torch.rand(shape))
