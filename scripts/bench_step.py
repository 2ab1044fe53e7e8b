"""Time one more step after a long sequence: Mamba's block, an LSTM, attention with a cache.

python scripts/bench_step.py --pasts 256,1024,4096,16384

Batch 1, float32, one thread, equal widths. Each figure is the thread's CPU time, the minimum over
rounds in which the three take turns, so that other load on the machine matters little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipmamba.nn import MambaBlock

STEPS = 10  # timed together, as the clock's resolution is limited


def mamba(width: int, past: int) -> tuple[Callable[[Tensor], object], int]:
    """Return a step of Mamba's block, and the size of its state in numbers."""
    block = MambaBlock(width)
    _, state = block.extend(torch.randn(1, past, width))
    memory = [state]

    def step(token: Tensor) -> None:
        _, memory[0] = block.step(token, memory[0])

    return step, sum(part.numel() for part in state)


def lstm(width: int, past: int) -> tuple[Callable[[Tensor], object], int]:
    """Return a step of an LSTM, and the size of its state in numbers."""
    cell = nn.LSTMCell(width, width)
    memory = [cell(torch.randn(1, width))]
    for token in torch.randn(past - 1, 1, width):
        memory[0] = cell(token, memory[0])

    def step(token: Tensor) -> None:
        memory[0] = cell(token, memory[0])

    return step, sum(part.numel() for part in memory[0])


def attention(width: int, past: int) -> tuple[Callable[[Tensor], object], int]:
    """Return a step of attention that caches all keys and values, and the size of its cache."""
    heads = width // 32
    project, out = nn.Linear(width, 3 * width), nn.Linear(width, width)
    keys, values = torch.randn(2, 1, heads, past + STEPS, 32)

    def step(token: Tensor) -> None:
        query, key, value = project(token).view(3, 1, heads, 1, 32)
        keys[:, :, -1:], values[:, :, -1:] = key, value
        out(F.scaled_dot_product_attention(query, keys, values).view(1, width))

    return step, keys.numel() + values.numel()


@click.command()
@click.option("--pasts", default="256,1024,4096,16384", show_default=True, help="Steps before.")
@click.option("--width", default=128, show_default=True)
@click.option("--rounds", default=60, show_default=True)
def main(pasts: str, width: int, rounds: int) -> None:
    """Print the table of docs/study_group.md."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = {"mamba": mamba, "LSTM": lstm, "attention": attention}
    cells = " | ".join(f"{kind}, µs | state, numbers" for kind in kinds)
    print(f"| previous steps | {cells} |")
    print("|---|" + "---|" * 2 * len(kinds))
    with torch.inference_mode():
        for past in map(int, pasts.split(",")):
            made = {kind: make(width, past) for kind, make in kinds.items()}
            least = dict.fromkeys(made, float("inf"))
            token = torch.randn(1, width)
            for _ in range(rounds):
                for kind, (step, _kept) in made.items():
                    started = time.thread_time()
                    for _ in range(STEPS):
                        step(token)
                    least[kind] = min(least[kind], time.thread_time() - started)
            cells = (
                f"{least[kind] / STEPS * 1e6:.0f} | {kept}" for kind, (_, kept) in made.items()
            )
            print(f"| {past} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
