"""The selective scan of many lines in parallel, step by step: a form that exports run fast.

Every line is a separate sequence, only as long as a picture is wide, so one loop of few steps
processes all of them, in both directions at once. Steps are the first axis and channels the last: a
step is then one contiguous piece of memory, without any reordering.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .op import register


def scan_lines(
    u: Tensor,
    delta: Sequence[Tensor],
    A: Sequence[Tensor],
    B: Sequence[Tensor],
    C: Sequence[Tensor],
    delta_bias: Sequence[Tensor],
    least_delta: float = 0.0,
) -> Tensor:
    """Run `selective_scan` with `delta_softplus` on M lines of T steps, forward and backward.

    This is an operator, `clipmamba::scan_lines`, which `interop.onnx` translates. It is for
    exports: not fused, and without gradients. All states start from zero. Of each pair of
    tensors, the first is for the forward scan and the second for the backward one.

    Args:
        u: (T, M, D), floating-point.
        delta: Two (T, M, D), step sizes before bias and softplus.
        A: Two (D, N), negative.
        B: Two (T, M, N).
        C: Two (T, M, N).
        delta_bias: Two (D).
        least_delta: Added to the step sizes, at least 0.

    Returns:
        Sum of both scans, (T, M, D), in the order of u.
    """
    pairs = (list(pair) for pair in (delta, A, B, C, delta_bias))
    result: Tensor = OPERATOR(u, *pairs, least_delta)
    return result


def _run(
    u: Tensor,
    delta: list[Tensor],
    A: list[Tensor],
    B: list[Tensor],
    C: list[Tensor],
    delta_bias: list[Tensor],
    least_delta: float,
) -> Tensor:
    y = torch.zeros_like(u)
    steps = range(len(u))
    for way, order in enumerate((steps, reversed(steps))):
        size = F.softplus(delta[way] + delta_bias[way]) + least_delta
        h = u.new_zeros(u.shape[1], *A[way].shape)  # (M, D, N)
        for t in order:
            drive = (size[t] * u[t])[..., None] * B[way][t, :, None]
            h = torch.exp(size[t][..., None] * A[way]) * h + drive
            y[t] += (h @ C[way][t, :, :, None])[..., 0]
    return y


OPERATOR = register(
    "scan_lines",
    "(Tensor u, Tensor[] delta, Tensor[] A, Tensor[] B, Tensor[] C, Tensor[] delta_bias, "
    "float least_delta) -> Tensor",
    _run,
    lambda u, *_: torch.empty_like(u),
)
