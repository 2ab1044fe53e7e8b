"""One loss over the batches of all processes, with the gradient of the joint batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


def gather_with_gradient(tensor: Tensor, accelerator: Accelerator | None = None) -> Tensor:
    r"""Join the rows of all processes, and let gradients flow back to each.

    ``accelerator.gather`` stops gradients; this does not. The mathematics: W processes hold rows
    :math:`f_r`, r = 1…W, each computes the same loss :math:`L(f_1, …, f_W)` from the gathered
    rows. Backward, every process arrives with its own copy of :math:`∂L/∂f_r`; this function
    *sums* them, so that process r continues with :math:`W · ∂L/∂f_r`. DistributedDataParallel
    then *averages* parameter gradients:

    .. math:: \frac{1}{W} \sum_r W \frac{∂L}{∂f_r} \frac{∂f_r}{∂θ}
        = \sum_r \frac{∂L}{∂f_r} \frac{∂f_r}{∂θ} = \frac{dL}{dθ},

    the gradient of one process with the joint batch. The same sum is right if process r only
    computes its own part :math:`L_r` of :math:`L = \frac{1}{W} \sum_r L_r`, and losses that are
    means over a process' own samples need no gathering at all, given equal batches; so all of
    them may simply be added up. Without DDP's mean (or if it sums) gradients are W times too big.

    Every process must call this, in the same order, with the same shape (accelerate's
    ``even_batches``, or ``drop_last``), and gradients must be wanted on all or on none.

    Args:
        tensor: This process' rows, (B, ...); integers are gathered too, without a gradient.
        accelerator: accelerate's ``Accelerator``; None means one process.

    Returns:
        (W * B, ...), the rows in the order of the processes; ``tensor`` itself on one process.

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
