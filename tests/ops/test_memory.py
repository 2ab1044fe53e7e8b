"""Memory for results: dense, of the type asked for, and torch's own in every respect."""

from __future__ import annotations

import pytest
import torch

from clipmamba.ops.selective_scan.backends.cpu.memory import empty, empty_like

LARGE = (3, 1 << 20)  # 12 MB of float32: huge pages


@pytest.mark.parametrize("shape", [(), (0, 5), (3, 7), (600, 601), LARGE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gives_a_dense_tensor_of_any_size(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = empty(shape, dtype)
    assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
    assert tensor.is_contiguous()
    tensor.fill_(2)
    assert (tensor == 2).all()


def test_keeps_the_order_of_axes() -> None:
    for shape in ((2, 3, 4), (2, 300, 2048)):
        last = torch.ones(shape, dtype=torch.bfloat16).transpose(1, 2)
        like = empty_like(last, torch.float32)
        assert (like.shape, like.stride(), like.dtype) == (last.shape, last.stride(), torch.float32)
        like.fill_(3)
        assert (like == 3).all()
        assert empty_like(last[:, ::2], torch.float32).stride()[1] == 1


@pytest.mark.parametrize("shape", [(3, 7), (600, 601), LARGE])
def test_results_can_be_resized_in_place(shape: tuple[int, ...]) -> None:
    for tensor in (empty(shape), empty_like(torch.ones(shape), torch.float32)):
        tensor.fill_(1)
        tensor.resize_(2 * shape[0], *shape[1:]).fill_(2)
        assert (tensor == 2).all()
        tensor.untyped_storage().resize_(0)
        assert tensor.data_ptr() == 0
