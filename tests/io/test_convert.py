"""Arrays to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.io.convert import array_to_tensor, check_range, tensor_to_array


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
