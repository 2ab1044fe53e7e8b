"""The selective scan of many lines at once, step by step: the form that exports run well.

Every line is a sequence of its own, and they are as long as a picture is wide, so one loop of few
steps takes them all. The steps come first and the channels last: a step is then one dense piece of
memory, which needs no reordering on the way in or out.
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
    """`selective_scan` with `delta_softplus` of M lines of T steps, all beginning at zero.

    An operator, `clipmamba::scan_lines`, which `interop.onnx` translates. Nothing is fused here: it
    is for exports, and without gradients.

    Args:
        u: (T, M, D), floating.
        delta: (T, M, D), step sizes before bias and softplus.
        A: (D, N), negative.
        B: (T, M, N).
        C: (T, M, N).
        delta_bias: (D).
        least_delta: Added to the step sizes, at least 0.
        backwards: Whether the last step is the first.

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
