"""A loss over the joint batch of all processes, with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


def gather_with_gradient(tensor: Tensor, accelerator: Accelerator | None = None) -> Tensor:
    r"""Gather the rows of all processes, and let gradients flow back to each.

    ``accelerator.gather`` stops gradients; this does not. The mathematics: W processes hold rows
    :math:`f_r`, r = 1…W, and each computes the same loss :math:`L(f_1, …, f_W)` from the gathered
    rows. In the backward pass, every process has its own copy of :math:`∂L/∂f_r`; this function
    *sums* them, so that process r continues with :math:`W · ∂L/∂f_r`. DistributedDataParallel
    then *averages* parameter gradients:

    .. math:: \frac{1}{W} \sum_r W \frac{∂L}{∂f_r} \frac{∂f_r}{∂θ}
        = \sum_r \frac{∂L}{∂f_r} \frac{∂f_r}{∂θ} = \frac{dL}{dθ},

    the gradient of one process with the joint batch. The same sum is right if process r computes
    only its own part :math:`L_r` of :math:`L = \frac{1}{W} \sum_r L_r`. Losses that are means over
    a process's own samples need no gathering if batches are equal, so all these losses may simply
    be added up. Without DDP, or if it sums gradients, they are W times too large.

    Every process must call this, in the same order, with the same shape (accelerate's
    ``even_batches``, or ``drop_last``), and either all or none must require gradients.

    Args:
        tensor: This process's rows, (B, ...); integers are gathered too, without a gradient.
        accelerator: accelerate's ``Accelerator``; None means one process.

    Returns:
        The rows in the order of the processes, (W * B, ...); ``tensor`` itself for one process.

    Raises:
        InputError: ``tensor`` has no dimension to join along.
    """
    if tensor.ndim == 0:
        raise InputError("gather_with_gradient needs rows, (B, ...), got a scalar")
    if accelerator is None or accelerator.num_processes == 1:
        return tensor
    gathered: Tensor = _GatherWithGradient.apply(tensor, accelerator)
    return gathered


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, accelerator: Accelerator) -> Tensor:
        ctx.accelerator = accelerator
        ctx.rows = tensor.shape[0]
        gathered: Tensor = accelerator.gather(tensor.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total: Tensor = ctx.accelerator.reduce(gradients[0].contiguous(), reduction="sum")
        start = ctx.accelerator.process_index * ctx.rows
        return total[start : start + ctx.rows], None
