"""The scan in forked processes; a program of its own, for torch's autograd can't be forked late.

Once anything in a process has woken autograd's threads, torch refuses backward passes in its forks.
"""

from __future__ import annotations

import multiprocessing
import sys

import torch

from clipmamba.ops import selective_scan


def values(seed: int) -> list[float]:
    """A few of the output and of a gradient; only the scan itself is worth threads here."""
    generator = torch.Generator().manual_seed(seed)
    u, delta, z = (torch.randn(1, 64, 300, generator=generator) for _ in range(3))
    B, C = (torch.randn(1, 16, 300, generator=generator) for _ in range(2))
    A, D, bias = -torch.rand(64, 16, generator=generator), torch.ones(64), torch.zeros(64)
    u.requires_grad_()
    out = selective_scan(u, delta, A, B, C, D, z, bias, True, backend="cpu")
    (du,) = torch.autograd.grad(out, u, torch.ones(()).expand_as(out))
    return [t[0, channel, -1].item() for t in (out, du) for channel in (0, 40)]


class Scans(torch.utils.data.Dataset):
    """Each item is a scan, computed where it is asked for."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[float]:
        return values(index)


def in_a_child() -> list[list[float]]:
    """Of the first item, in a forked child."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(values(0)), daemon=True)
    child.start()
    got = queue.get(timeout=60)
    child.join(timeout=60)
    return [got]


def in_a_child_of_one_thread() -> list[list[float]]:
    """Of the first item beside an operator of torch's own that is worth threads.

    Without `set_num_threads` that would wait for ever for threads which did not survive the fork.
    """
    many = torch.ones(4_000_000)
    many.sum()  # in the parent with threads

    def run() -> None:
        torch.set_num_threads(1)
        assert many.sum() == len(many)
        queue.put(values(0))

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=run, daemon=True)
    child.start()
    got = queue.get(timeout=60)
    child.join(timeout=60)
    return [got]


def in_workers() -> list[list[float]]:
    """Of all items, in a worker of a DataLoader."""
    loader = torch.utils.data.DataLoader(
        Scans(), batch_size=None, num_workers=1, timeout=60, multiprocessing_context="fork"
    )
    return list(loader)


if __name__ == "__main__":
    torch.set_num_threads(2)  # wakes the pool of threads that a child will not have
    expected = [values(index) for index in range(4)]
    ways = {"child": in_a_child, "alone": in_a_child_of_one_thread, "workers": in_workers}
    found = ways[sys.argv[1]]()
    for got, want in zip(found, expected, strict=False):
        torch.testing.assert_close(torch.tensor(got), torch.tensor(want))
    sys.stdout.write(f"{len(found)} scans\n")
