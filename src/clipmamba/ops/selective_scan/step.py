"""One step of the scan, for recurrent use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError

from .interface import compute_dtype


def selective_scan_step(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    least_delta: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """One step of `selective_scan`: constant time and memory, however long the sequence so far.

    Args:
        state: (B, D, N) in float32, or float64 for a float64 u; zeros before the first step. It is
            not changed.
        u: (B, D), floating: the scan's u at this step; likewise delta, B, C and z.
        delta: (B, D).
        A: (D, N), real.
        B: (B, N), or (B, G, N) with D divisible by G.
        C: (B, N) or (B, G, N), the same G.
        D: (D), skip connection.
        z: (B, D), gate.
        delta_bias: (D), added to delta.
        delta_softplus: pass delta through softplus.
        least_delta: added to the step size after that.

    Returns:
        out (B, D) in u's type and the next state (B, D, N). Differentiable by autograd.

    Raises:
        InputError: shapes that don't fit.
    """
    B = B.unsqueeze(1) if B.ndim == 2 else B
    C = C.unsqueeze(1) if C.ndim == 2 else C
    if u.ndim != 2 or A.ndim != 2 or B.ndim != 3 or B.shape[1] == 0 or u.shape[1] % B.shape[1]:
        raise InputError(
            "selective_scan_step wants u (B, D), A (D, N) and B (B, N) or (B, G, N) with D "
            f"divisible by G, not {tuple(u.shape)}, {tuple(A.shape)}, {tuple(B.shape)}"
        )
    batch, channels = u.shape
    groups, states = B.shape[1], A.shape[1]
    wanted = {
        "state": (state, (batch, channels, states)),
        "delta": (delta, (batch, channels)),
        "A": (A, (channels, states)),
        "B": (B, (batch, groups, states)),
        "C": (C, (batch, groups, states)),
        "D": (D, (channels,)),
        "z": (z, (batch, channels)),
        "delta_bias": (delta_bias, (channels,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InputError(f"selective_scan_step: {name} is {tuple(tensor.shape)}, not {shape}")
    with torch.autocast(u.device.type, enabled=False):
        dtype = compute_dtype(u)
        x, step = u.to(dtype), delta.to(dtype)
        if delta_bias is not None:
            step = step + delta_bias.to(dtype)
        if delta_softplus:
            step = F.softplus(step)
        step = step + least_delta
        B, C = (t.to(dtype).repeat_interleave(channels // groups, dim=1) for t in (B, C))
        decay = torch.exp(step[..., None] * A.to(dtype))
        state = decay * state.to(dtype) + (step * x)[..., None] * B
        out = (state * C).sum(-1)
        if D is not None:
            out = out + D.to(dtype) * x
        if z is not None:
            out = out * F.silu(z.to(dtype))
        return out.to(u.dtype), state
