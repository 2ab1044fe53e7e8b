"""The selective scan as a plain loop, the ground truth for the other backends."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interface import Backend, ScanCall, ScanInputs, Verdict, compute_dtype


def scan(inputs: ScanInputs, needs_grad: bool = True) -> tuple[Tensor, Tensor]:
    """Scan step by step; differentiable by autograd any number of times.

    Args:
        inputs: the inputs of the scan.
        needs_grad: unused.

    Returns:
        out (B, D, L) of u's dtype and the last state (B, D, N).
    """
    u = inputs.u
    with torch.autocast(u.device.type, enabled=False):
        dtype = compute_dtype(u)
        per_group = u.shape[1] // inputs.B.shape[1]
        x, delta, A = (t.to(dtype) for t in (u, inputs.delta, inputs.A))
        B, C = (  # (B, D, N, L)
            t.to(dtype).repeat_interleave(per_group, dim=1) for t in (inputs.B, inputs.C)
        )
        if inputs.delta_bias is not None:
            delta = delta + inputs.delta_bias.to(dtype)[:, None]
        if inputs.delta_softplus:
            delta = F.softplus(delta)
        delta = delta + inputs.least_delta
        if inputs.initial_state is None:
            state = x.new_zeros(*x.shape[:2], A.shape[1])  # (B, D, N)
        else:
            state = inputs.initial_state.to(dtype)
        y = []
        # unbind, since the backward pass of indexing allocates a full zero tensor per step
        for d_t, x_t, B_t, C_t in zip(
            delta.unbind(2), x.unbind(2), B.unbind(3), C.unbind(3), strict=True
        ):
            state = torch.exp(d_t[..., None] * A) * state + (d_t * x_t)[..., None] * B_t
            y.append((state * C_t).sum(-1))
        out = torch.stack(y, dim=2)
        if inputs.D is not None:
            out = out + inputs.D.to(dtype)[:, None] * x
        if inputs.z is not None:
            out = out * F.silu(inputs.z.to(dtype))
        return out.to(u.dtype), state


def _available() -> Verdict:
    return True, "a plain loop, for tests"


def _supports(call: ScanCall) -> Verdict:
    return True, "runs everything, slowly"


BACKEND = Backend("reference", _available, _supports, scan)
