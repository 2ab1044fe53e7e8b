"""Two processes give the loss and the gradients of one with the joint batch."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.losses import ContrastiveDirectionLoss, DirectionalLoss
from clipmamba.train.distributed import gather_with_gradient

BATCH = 4


def joint_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    photos = torch.randn(2 * BATCH, 6, generator=generator, dtype=torch.float64)
    styles = torch.randn(2 * BATCH, 5, generator=generator, dtype=torch.float64)
    return photos, styles, torch.tensor([0, 1, 2, 3, 0, 4, 1, 5])  # two styles cross the border


def tiny_model() -> nn.Module:
    """Takes (photo, style) and gives both directions, so that both sides of the loss learn."""

    class TwoTowers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.photo = nn.Linear(6, 5)
            self.style = nn.Linear(5, 5)

        def forward(self, photos: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
            return self.photo(photos), self.style(styles)

    torch.manual_seed(0)
    return TwoTowers().double()


def total_loss(model: nn.Module, batch: tuple[Tensor, ...], gather) -> tuple[Tensor, Tensor]:
    photos, styles, ids = batch
    images, directions = model(photos, styles)
    contrastive = ContrastiveDirectionLoss(temperature=0.5, gather=gather)(images, directions, ids)
    origin = torch.zeros(1, 5, dtype=images.dtype)
    # a loss over this process' own samples beside it: DDP's mean must suit both
    local = DirectionalLoss()(images, origin, directions, origin)
    return contrastive, local


def two_processes_equal_one() -> None:
    """Body of each process, and the whole test: an AssertionError fails the launcher."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    rank = accelerator.process_index

    alone = tiny_model()
    contrastive, local = total_loss(alone, joint_batch(), None)
    (contrastive + local).backward()

    shared = accelerator.prepare(tiny_model())
    mine = tuple(part[rank * BATCH : (rank + 1) * BATCH] for part in joint_batch())
    gather = functools.partial(gather_with_gradient, accelerator=accelerator)
    my_contrastive, my_local = total_loss(shared, mine, gather)
    accelerator.backward(my_contrastive + my_local)

    assert torch.allclose(my_contrastive, contrastive, rtol=0, atol=1e-9)
    assert torch.allclose(accelerator.gather(my_local).mean(), local, rtol=0, atol=1e-9)
    parameters = accelerator.unwrap_model(shared).named_parameters()
    for (name, parameter), expected in zip(parameters, alone.parameters(), strict=True):
        assert expected.grad.abs().max() > 1e-3, name
        assert torch.allclose(parameter.grad, expected.grad, rtol=0, atol=1e-9), name
    accelerator.end_training()


def test_two_processes_give_the_joint_batch_loss_and_gradients():
    # in a process of its own: the launcher forks, which a pytest full of threads would not survive
    finished = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.strip().endswith("both processes agree with one")


def test_one_process_gets_its_own_tensor_back():
    class OneProcess:
        num_processes = 1

    rows = torch.rand(3, 2, requires_grad=True)
    assert gather_with_gradient(rows) is rows
    assert gather_with_gradient(rows, OneProcess()) is rows


def test_a_scalar_is_refused():
    with pytest.raises(InputError, match="scalar"):
        gather_with_gradient(torch.tensor(1.0))


if __name__ == "__main__":
    from accelerate import debug_launcher

    torch.set_num_threads(1)
    debug_launcher(two_processes_equal_one, num_processes=2)
    sys.stdout.write("both processes agree with one\n")
