"""Arrays to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.io.convert import (
    array_to_tensor,
    check_range,
    in_strips,
    luma,
    tensor_to_array,
    window_means,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_there_and_back(dtype):
    rng = np.random.default_rng(0)
    array = rng.random((5, 7, 3))
    if np.issubdtype(dtype, np.integer):
        array = np.rint(array * np.iinfo(dtype).max)
    array = array.astype(dtype)
    tensor = array_to_tensor(array)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor.dtype == torch.float32
    back = tensor_to_array(tensor, array.dtype)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, array, rtol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4)),
        np.zeros((0, 4, 3)),
        np.zeros((4, 4, 3), dtype=np.int32),
        np.full((4, 4, 3), 255.0),
        np.full((4, 4, 3), np.nan),
    ],
)
def test_what_is_no_picture_is_refused(array):
    with pytest.raises(InputError):
        array_to_tensor(array)


def test_overshoot_of_resampling_is_no_error():
    check_range(torch.tensor([-0.05, 1.08]))


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize(("height", "width", "radius"), [(9, 13, 2), (5, 1, 3), (12, 7, 20)])
def test_window_means_are_those_of_squares_cut_at_the_edges(height, width, radius, stride):
    pictures = torch.rand(2, 3, height, width, dtype=torch.float64)
    found = window_means(pictures, radius, stride)
    assert found.shape == (2, 3, -(-height // stride), -(-width // stride))
    for row, y in enumerate(range(0, height, stride)):
        for column, x in enumerate(range(0, width, stride)):
            rows, columns = (slice(max(0, at - radius), at + radius + 1) for at in (y, x))
            expected = pictures[:, :, rows, columns].mean((2, 3))
            torch.testing.assert_close(found[:, :, row, column], expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 200_000), (300, 1000)])
def test_strips_make_no_difference(size):
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(1, 3, *size, generator=generator)
    other = torch.rand(1, 1, *size, generator=generator)
    torch.testing.assert_close(in_strips(torch.mul, one, other), one * other, rtol=0, atol=0)
    one.requires_grad_()
    in_strips(torch.mul, one, other).sum().backward()
    torch.testing.assert_close(one.grad, other.expand_as(one), rtol=0, atol=0)


def test_strips_pass_gradients_to_what_the_function_holds():
    gain = torch.tensor(2.0, requires_grad=True)
    in_strips(lambda rows: gain * rows, torch.ones(1, 1, 3, 5)).sum().backward()
    assert gain.grad == 15


def test_luma_is_that_of_rec_709():
    pictures = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    expected = torch.einsum(
        "bchw,c->bhw", pictures, torch.tensor([0.2126, 0.7152, 0.0722]).double()
    )
    torch.testing.assert_close(luma(pictures)[:, 0], expected, rtol=0, atol=1e-6)
