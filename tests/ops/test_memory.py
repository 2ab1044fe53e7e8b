"""Memory for results: never two tensors' at once, kept for the next of its size, within bounds."""

from __future__ import annotations

import sys
import threading

import pytest
import torch

from clipmamba.ops.selective_scan import memory
from clipmamba.ops.selective_scan.memory import empty, empty_like

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


def test_tensors_that_live_share_nothing() -> None:
    tensors = [empty(LARGE).fill_(number) for number in range(4)]
    del tensors[1]  # the next may have these pages, and only these
    tensors.append(empty(LARGE).fill_(9))
    assert [tensor.unique().tolist() for tensor in tensors] == [[0], [2], [3], [9]]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are kept on Linux only")
def test_pages_wait_until_the_last_view_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_waiting", [])
    tensor = empty(LARGE)
    place, view = tensor.data_ptr(), tensor[1:, ::2]
    del tensor
    assert empty(LARGE).data_ptr() != place
    del view
    tensors = [empty(LARGE) for _ in range(2)]  # two wait by now
    assert place in [tensor.data_ptr() for tensor in tensors]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are kept on Linux only")
def test_few_pages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_waiting", [])
    for number in range(50):
        empty((300 + number, 1024))
    assert 0 < len(memory._waiting) <= 32
    monkeypatch.setattr(memory, "_most_bytes", lambda: 20 << 20)
    for rows in (2, 3, 4):
        empty((rows, 1 << 20))
    assert sum(map(len, memory._waiting)) <= 20 << 20


def test_threads_get_their_own() -> None:
    wrong: list[int] = []

    def use(number: int) -> None:
        for _ in range(200):
            tensor = empty((300, 1024)).fill_(number)
            if not (tensor == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
