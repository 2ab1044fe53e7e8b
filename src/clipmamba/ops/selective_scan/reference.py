"""The selective scan as a plain loop: the truth the other backends are held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .interface import Backend, ScanCall, Verdict, compute_dtype


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    needs_grad: bool = True,
) -> tuple[Tensor, Tensor]:
    """One step after the other, differentiable by autograd as often as wanted.

    Args:
        u: (B, D, L), floating. float64 is computed in float64, everything else in float32.
        delta: (B, D, L).
        A: (D, N).
        B: (B, G, N, L).
        C: (B, G, N, L).
        D: (D) or None.
        z: (B, D, L) or None.
        delta_bias: (D) or None.
        delta_softplus: pass delta + delta_bias through softplus.
        needs_grad: not needed here, autograd knows.

    Returns:
        out (B, D, L) in u's type and the last state (B, D, N).
    """
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
        state = x.new_zeros(*x.shape[:2], A.shape[1])  # (B, D, N)
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
