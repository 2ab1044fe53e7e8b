"""The scan of whole sequences, of blocks of sequences, and of single steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError

from .dispatch import choose
from .interface import ScanInputs, check_inputs, compute_dtype


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
    initial_state: Tensor | None = None,
    least_delta: float = 0.0,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run the selective state space recurrence along the last axis.

    .. math::
        h_t = e^{\delta_t A} h_{t-1} + \delta_t u_t B_t, \qquad
        y_t = \langle h_t, C_t \rangle + D u_t, \qquad \text{out}_t = y_t \, \text{silu}(z_t)

    with delta = softplus(delta + delta_bias) + least_delta, as far as these are given. Letters and
    shapes are those of mamba-ssm's `selective_scan_fn`. Both results are differentiable in every
    tensor.

    State and arithmetic are float32 whatever the inputs' dtypes, which may be mixed as under
    autocast; a float64 u is computed in float64. Each gradient has its input's dtype.

    Args:
        u: (B, D, L), floating-point.
        delta: (B, D, L), step sizes; positive after bias and softplus.
        A: (D, N), real, negative for a stable state.
        B: (B, N, L), or (B, G, N, L) with D divisible by G: channel d is in group d // (D / G).
        C: (B, N, L) or (B, G, N, L), with the same G.
        D: (D,), skip connection.
        z: (B, D, L), gate.
        delta_bias: (D,), added to delta.
        delta_softplus: pass delta through softplus.
        return_last_state: also return the state after the last step.
        initial_state: (B, D, N), the state before the first step; None for zeros. Pass the last
            state of one piece of a sequence to continue with the next piece.
        least_delta: added to the step sizes after bias and softplus, at least 0, so that states
            fade at least by exp(least_delta A) per step.
        backend: "auto" or a name from `backend_table()`.

    Returns:
        out (B, D, L) of u's dtype, or (out, last state (B, D, N) in float32 or float64).

    Raises:
        InputError: shapes are inconsistent, tensors complex or integer, or the backend is unknown.
        BackendError: the named backend can't run this call.

    Examples:
        >>> u, delta = torch.randn(2, 8, 100), torch.rand(2, 8, 100)
        >>> A, B, C = -torch.rand(8, 4), torch.randn(2, 4, 100), torch.randn(2, 4, 100)
        >>> whole = selective_scan(u, delta, A, B, C)
        >>> whole.shape
        torch.Size([2, 8, 100])
    """
    inputs = ScanInputs(
        u=u,
        delta=delta,
        A=A,
        B=B.unsqueeze(1) if B.ndim == 3 else B,
        C=C.unsqueeze(1) if C.ndim == 3 else C,
        D=D,
        z=z,
        delta_bias=delta_bias,
        initial_state=initial_state,
        delta_softplus=delta_softplus,
        least_delta=least_delta,
    )
    if u.ndim == 4:
        raise InputError("selective_scan needs u (B, D, L); cross_selective_scan takes pictures")
    check_inputs(inputs, "selective_scan")
    call = inputs.call(return_last_state)
    out, last = choose(call, backend).scan(inputs, call.needs_grad)
    return (out, last) if return_last_state else out


Block = tuple[Tensor, Tensor, Tensor, Tensor] | tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Consecutive steps of u (B, D, T), delta (B, D, T), B, C (B, N, T) and, optionally, z."""


def selective_scan_blocks(
    blocks: Iterable[Block],
    A: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    initial_state: Tensor | None = None,
    least_delta: float = 0.0,
    backend: str = "auto",
) -> Iterator[Tensor]:
    """Scan a sequence that does not fit in memory, block by block.

        for out in selective_scan_blocks(read_blocks(), A, delta_softplus=True):
            write(out)

    Args:
        blocks: (u, delta, B, C) or (u, delta, B, C, z) of consecutive steps, of any lengths; see
            `selective_scan`. They are consumed one at a time.
        A: (D, N); see `selective_scan` for this and the following.
        D: (D,).
        delta_bias: (D,).
        delta_softplus: pass delta through softplus.
        initial_state: (B, D, N); None for zeros.
        least_delta: added to the step sizes.
        backend: "auto" or a name from `backend_table()`.

    Yields:
        out (B, D, T) of each block; together they are the whole scan.

    Raises:
        InputError: see `selective_scan`; raised at the invalid block.
    """
    state = initial_state
    for u, delta, B, C, *z in blocks:
        out, state = selective_scan(
            u,
            delta,
            A,
            B,
            C,
            D,
            z[0] if z else None,
            delta_bias,
            delta_softplus,
            return_last_state=True,
            initial_state=state,
            least_delta=least_delta,
            backend=backend,
        )
        yield out


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
    """Run one step of `selective_scan`, in constant time and memory.

    Args:
        state: (B, D, N) in float32, or float64 for a float64 u; zeros before the first step. It is
            not changed.
        u: (B, D), floating-point, the scan's u at this step; likewise delta, B, C and z.
        delta: (B, D).
        A: (D, N), real.
        B: (B, N), or (B, G, N) with D divisible by G.
        C: (B, N) or (B, G, N), with the same G.
        D: (D,), skip connection.
        z: (B, D), gate.
        delta_bias: (D,), added to delta.
        delta_softplus: pass delta through softplus.
        least_delta: added to the step size after that.

    Returns:
        out (B, D) of u's dtype and the next state (B, D, N). Differentiable by autograd.

    Raises:
        InputError: shapes are inconsistent.
    """
    B = B.unsqueeze(1) if B.ndim == 2 else B
    C = C.unsqueeze(1) if C.ndim == 2 else C
    if u.ndim != 2 or A.ndim != 2 or B.ndim != 3 or B.shape[1] == 0 or u.shape[1] % B.shape[1]:
        raise InputError(
            "selective_scan_step needs u (B, D), A (D, N) and B (B, N) or (B, G, N) with D "
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
