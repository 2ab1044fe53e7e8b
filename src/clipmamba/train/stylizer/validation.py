"""Validation losses of a stylizer, on pictures that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from clipmamba.train.stylizer.batches import StylizerBatches


def mean_losses(
    sources: Sequence[StylizerBatches], count: int
) -> Callable[[nn.Module], dict[str, float]]:
    """Return a function that averages each loss of a task over `count` batches.

    Args:
        sources: Batches of the pictures set aside; they take turns.
        count: Number of batches.
    """

    @torch.no_grad()
    def measure(task: nn.Module) -> dict[str, float]:
        device = next(task.parameters()).device
        found: dict[str, list[float]] = {}
        for step in range(count):
            batch = sources[step % len(sources)].batch(step, 0, 1)
            losses = task({name: value.to(device) for name, value in batch.items()})
            for name, value in losses.items():
                found.setdefault(name, []).append(value.item())
        return {name: sum(values) / len(values) for name, values in found.items()}

    return measure
