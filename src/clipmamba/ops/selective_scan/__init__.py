"""The selective scan of Mamba (S6), as a function."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.errors import InputError

from .dispatch import BackendStatus, backend_table, choose, scan_backend
from .interface import ScanCall

__all__ = ["BackendStatus", "backend_table", "scan_backend", "selective_scan"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run the selective state space recurrence along the last axis.

    .. math::
        h_t = e^{\delta_t A} h_{t-1} + \delta_t u_t B_t, \qquad
        y_t = \langle h_t, C_t \rangle + D u_t, \qquad \text{out}_t = y_t \, \text{silu}(z_t)

    with delta = softplus(delta + delta_bias) if asked for. Letters and shapes are those of
    mamba-ssm's `selective_scan_fn`. Differentiable in every tensor, through both results.

    The state and the arithmetic are float32, whatever the inputs' types, so a bfloat16 u beside a
    float32 A, as autocast makes them, is welcome; a float64 u is computed in float64. Each
    gradient has the type of its input.

    Args:
        u: (B, D, L), floating.
        delta: (B, D, L), step sizes; positive after bias and softplus.
        A: (D, N), real, negative for a stable state.
        B: (B, N, L), or (B, G, N, L) with D divisible by G: channels d of group d // (D / G).
        C: (B, N, L) or (B, G, N, L), the same G.
        D: (D), skip connection.
        z: (B, D, L), gate.
        delta_bias: (D), added to delta.
        delta_softplus: pass delta through softplus.
        return_last_state: also return the state after the last step.
        backend: "auto" or a name of `backend_table()`.

    Returns:
        out (B, D, L) in u's type, or (out, last state (B, D, N) in float32 or float64).

    Raises:
        InputError: shapes that don't fit, complex or integer tensors, an unknown backend.
        BackendError: the named backend can't run this call.
    """
    B = B.unsqueeze(1) if B.ndim == 3 else B
    C = C.unsqueeze(1) if C.ndim == 3 else C
    _check(u, delta, A, B, C, D, z, delta_bias)
    tensors = (u, delta, B, C) if z is None else (u, delta, B, C, z)
    needs_grad = torch.is_grad_enabled() and (
        any(t.requires_grad for t in tensors)
        or any(t is not None and t.requires_grad for t in (A, D, delta_bias))
    )
    batch, channels, length = u.shape
    call = ScanCall(
        device=u.device,
        dtypes=frozenset(t.dtype for t in tensors),
        batch=batch,
        channels=channels,
        states=A.shape[1],
        groups=B.shape[1],
        length=length,
        needs_grad=needs_grad,
        last_state_grad=return_last_state and needs_grad,
    )
    out, last = choose(call, backend).scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, needs_grad
    )
    return (out, last) if return_last_state else out


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    if u.ndim != 3 or A.ndim != 2 or B.ndim != 4 or 0 in u.shape or A.shape[1] == 0:
        raise InputError(
            "selective_scan wants u (B, D, L), A (D, N) and B (B, N, L) or (B, G, N, L), none of "
            f"them empty, not {tuple(u.shape)}, {tuple(A.shape)}, {tuple(B.shape)}"
        )
    batch, channels, length = u.shape
    groups, states = B.shape[1], A.shape[1]
    wanted = {
        "delta": (delta, (batch, channels, length)),
        "A": (A, (channels, states)),
        "B": (B, (batch, groups, states, length)),
        "C": (C, (batch, groups, states, length)),
        "D": (D, (channels,)),
        "z": (z, (batch, channels, length)),
        "delta_bias": (delta_bias, (channels,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise InputError(f"selective_scan: {name} is {tuple(tensor.shape)}, not {shape}")
        if not tensor.dtype.is_floating_point:
            raise InputError(f"selective_scan: {name} is {tensor.dtype}, not a real floating type")
        if tensor.device != u.device:
            raise InputError(f"selective_scan: {name} is on {tensor.device}, u on {u.device}")
    if not u.dtype.is_floating_point:
        raise InputError(f"selective_scan: u is {u.dtype}, not a real floating type")
    if channels % groups:
        raise InputError(f"selective_scan: {channels} channels can't be split in {groups} groups")
