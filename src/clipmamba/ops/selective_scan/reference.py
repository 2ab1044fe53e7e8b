"""The selective scan as a plain loop: the truth the other backends are held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .interface import Backend, ScanCall, ScanInputs, Verdict, compute_dtype


def scan(inputs: ScanInputs, needs_grad: bool = True) -> tuple[Tensor, Tensor]:
    """One step after the other, differentiable by autograd as often as wanted.

    Args:
        inputs: of the scan.
        needs_grad: not needed here, autograd knows.

    Returns:
        out (B, D, L) in u's type and the last state (B, D, N).
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, least = inputs
    with torch.autocast(u.device.type, enabled=False):
        dtype = compute_dtype(u)
        per_group = u.shape[1] // B.shape[1]
        x, delta, A = u.to(dtype), delta.to(dtype), A.to(dtype)
        B = B.to(dtype).repeat_interleave(per_group, dim=1)  # (B, D, N, L)
        C = C.to(dtype).repeat_interleave(per_group, dim=1)
        if delta_bias is not None:
            delta = delta + delta_bias.to(dtype)[:, None]
        if delta_softplus:
            delta = F.softplus(delta)
        delta = delta + least
        if initial_state is None:
            state = x.new_zeros(*x.shape[:2], A.shape[1])  # (B, D, N)
        else:
            state = initial_state.to(dtype)
        y = []
        # unbind, not indexing: the backward of an index makes a whole zero tensor per step.
        for d_t, x_t, B_t, C_t in zip(
            delta.unbind(2), x.unbind(2), B.unbind(3), C.unbind(3), strict=True
        ):
            state = torch.exp(d_t[..., None] * A) * state + (d_t * x_t)[..., None] * B_t
            y.append((state * C_t).sum(-1))
        out = torch.stack(y, dim=2)
        if D is not None:
            out = out + D.to(dtype)[:, None] * x
        if z is not None:
            out = out * F.silu(z.to(dtype))
        return out.to(u.dtype), state


def _available() -> Verdict:
    return True, "a plain loop, for tests"


def _supports(call: ScanCall) -> Verdict:
    return True, "runs everything, slowly"


BACKEND = Backend("reference", _available, _supports, scan)
