"""Four directions through a picture and back."""

from __future__ import annotations

import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.ops import cross_merge, cross_scan


def test_the_four_orders() -> None:
    x = torch.tensor([[[[0, 1, 2], [3, 4, 5]]]])  # (1, 1, 2, 3)
    assert cross_scan(x)[0, :, 0].tolist() == [
        [0, 1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1, 0],
        [0, 3, 1, 4, 2, 5],
        [5, 2, 4, 1, 3, 0],
    ]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (4, 4), (3, 5)])
def test_merge_brings_every_pixel_home(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(cross_merge(cross_scan(x), *size), 4 * x.flatten(2))


@pytest.mark.parametrize("size", [(1, 7), (4, 4), (3, 5)])
def test_scan_and_merge_are_adjoint(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = torch.randn(2, 4, 3, size[0] * size[1], dtype=torch.float64)
    forth = (cross_scan(x) * y).sum()
    back = (x.flatten(2) * cross_merge(y, *size)).sum()
    torch.testing.assert_close(forth, back)


def test_gradients_are_each_others_function() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    y = torch.randn(2, 4, 3, 20, requires_grad=True)
    (dx,) = torch.autograd.grad(cross_scan(x), x, y)
    assert torch.equal(dx.flatten(2), cross_merge(y, 4, 5))
    (dy,) = torch.autograd.grad(cross_merge(y, 4, 5), y, x.flatten(2))
    assert torch.equal(dy, cross_scan(x))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"\(B, D, H, W\)"):
        cross_scan(torch.zeros(3, 4, 5))
    with pytest.raises(InputError, match="6 \\* 5"):
        cross_merge(torch.zeros(1, 4, 3, 20), 6, 5)
    with pytest.raises(InputError, match=r"\(B, 4, D"):
        cross_merge(torch.zeros(1, 3, 3, 20), 4, 5)
