"""Lack of memory is one picture's failure; other faults of torch are not."""

from __future__ import annotations

import pytest
import torch

from clipmamba.errors import BackendError, InputError
from clipmamba.io.memory import memory_errors


def test_a_tensor_that_no_computer_holds() -> None:
    with pytest.raises(InputError, match="photo does not fit in memory; make it smaller"):  # noqa: SIM117
        with memory_errors("photo", "make it smaller"):
            torch.empty(2**50, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        BackendError("triton can't run this: out of memory"),
        InputError("the mask has another size"),
    ],
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors("photo", "make it smaller"):
        raise error
    assert caught.value is error
