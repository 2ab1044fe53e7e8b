from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clipmamba.clip import Clip


@pytest.fixture(autouse=True)
def fresh_accelerate_state() -> Iterator[None]:
    """accelerate keeps its state in the process; each test starts its own."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors, and equal sums however many threads the machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clip(tiny_clip_folder: Path) -> Clip:
    return Clip.from_pretrained(str(tiny_clip_folder))
