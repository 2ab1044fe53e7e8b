"""The selective scan of many lines in parallel, step by step: a form that exports run fast.

Every line is a separate sequence, only as long as a picture is wide, so one loop of few steps
processes all of them. Steps are the first axis and channels the last: a step is then one contiguous
piece of memory, without any reordering.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .op import register


def scan_lines(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor,
    least_delta: float = 0.0,
    backwards: bool = False,
) -> Tensor:
    """Run `selective_scan` with `delta_softplus` on M lines of T steps, all starting from zero.

    This is an operator, `clipmamba::scan_lines`, which `interop.onnx` translates. It is for
    exports: not fused, and without gradients.

    Args:
        u: (T, M, D), floating-point.
        delta: (T, M, D), step sizes before bias and softplus.
        A: (D, N), negative.
        B: (T, M, N).
        C: (T, M, N).
        delta_bias: (D).
        least_delta: Added to the step sizes, at least 0.
        backwards: Whether to scan from the last step to the first.

    Returns:
        (T, M, D), in the order of u.
    """
    result: Tensor = OPERATOR(u, delta, A, B, C, delta_bias, least_delta, backwards)
    return result


def _run(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor,
    least_delta: float,
    backwards: bool,
) -> Tensor:
    delta = F.softplus(delta + delta_bias) + least_delta
    h = u.new_zeros(u.shape[1], *A.shape)  # (M, D, N)
    y = torch.empty_like(u)
    for t in reversed(range(len(u))) if backwards else range(len(u)):
        drive = (delta[t] * u[t])[..., None] * B[t, :, None]
        h = torch.exp(delta[t][..., None] * A) * h + drive
        y[t] = (h @ C[t, :, :, None])[..., 0]
    return y


OPERATOR = register(
    "scan_lines",
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor delta_bias, "
    "float least_delta, bool backwards) -> Tensor",
    _run,
    lambda u, *_: torch.empty_like(u),
)
