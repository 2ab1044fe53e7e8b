"""The selective scan in plain torch, for any device and floating-point dtype, without a compiler.

A linear recurrence h_t = a_t h_(t-1) + v_t over T steps is split into about sqrt(T) pieces that run
in parallel, first from zero to find each piece's final state, then from its true initial state. So
a chunk takes about 3 sqrt(T) small torch calls instead of T. Chunks run one after another, and only
their initial states are saved; the backward pass recomputes everything else, chunk by chunk, so
memory stays linear in L.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interface import (
    Gradients,
    Results,
    ScanCall,
    ScanInputs,
    Verdict,
    ceil_div,
    compute_dtype,
    no_tangents,
)

CHUNK = 256
"""Steps between two saved states."""


def available() -> Verdict:
    """Tell whether it can run on this machine; it always can."""
    return True, "plain torch"


def supports(call: ScanCall) -> Verdict:
    """Tell whether it can run a call; all but those with a forward-mode derivative."""
    reason = no_tangents(call)
    return reason is None, reason or "runs everything"


def chunk_count(inputs: ScanInputs) -> int:
    """Count the chunk-start states that `forward` saves."""
    return ceil_div(inputs.delta.shape[2], CHUNK)


def linear_scan(log_decay: Tensor, decay: Tensor, drive: Tensor, start: Tensor) -> Tensor:
    """Compute the states of h_t = decay_t * h_(t-1) + drive_t with h_0 = start.

    Args:
        log_decay: (T, ...). A piece's total decay is computed from their sum, since a product of
            rounded decays near 1 loses digits with every step.
        decay: exp(log_decay), (T, ...).
        drive: (T, ...).
        start: (...).

    Returns:
        (T, ...), the state after every step.
    """
    length = decay.shape[0]
    steps = 2 ** round(math.log2(math.sqrt(length)))
    pieces = -(-length // steps)
    padding = [0, 0] * (decay.ndim - 1) + [0, pieces * steps - length]
    # A padded step keeps the state: decay 1, drive 0.
    shape = (pieces, steps, *decay.shape[1:])
    total = F.pad(log_decay, padding).view(shape).sum(1).exp()  # of each piece
    decays = F.pad(decay, padding, value=1.0).view(shape).unbind(1)
    drives = F.pad(drive, padding).view(shape).unbind(1)

    end = drives[0]  # of each piece started at zero
    for a, v in zip(decays[1:], drives[1:], strict=True):
        end = torch.addcmul(v, a, end)
    starts = [start]
    for piece in range(pieces - 1):
        starts.append(torch.addcmul(end[piece], total[piece], starts[-1]))
    state = torch.stack(starts)
    states = torch.empty(shape, dtype=state.dtype, device=state.device)
    for step, (a, v) in enumerate(zip(decays, drives, strict=True)):
        state = torch.addcmul(v, a, state)
        states[:, step] = state
    return states.flatten(0, 1)[:length]


class _Chunk:
    """One chunk of the inputs in the compute dtype, time first, channels split by group."""

    def __init__(self, inputs: ScanInputs, steps: slice) -> None:
        dtype = compute_dtype(inputs.u)
        groups = inputs.B.shape[1]
        self.u = split(inputs.u[..., steps].to(dtype), groups)  # (T, B, G, P)
        raw = inputs.delta[..., steps].to(dtype)
        if inputs.delta_bias is not None:
            raw = raw + inputs.delta_bias.to(dtype)[:, None]
        self.raw_delta = split(raw, groups)
        self.delta = F.softplus(self.raw_delta) if inputs.delta_softplus else self.raw_delta
        if inputs.least_delta:
            self.delta = self.delta + inputs.least_delta
        self.A = torch.unflatten(inputs.A.to(dtype), 0, (groups, -1))  # (G, P, N)
        self.B = inputs.B[..., steps].to(dtype).permute(3, 0, 1, 2)  # (T, B, G, N)
        self.C = inputs.C[..., steps].to(dtype).permute(3, 0, 1, 2)
        self.log_decay = self.delta[..., None] * self.A  # (T, B, G, P, N)
        self.decay = torch.exp(self.log_decay)
        self.x = self.delta * self.u
        self.drive = self.x[..., None] * self.B[..., None, :]


def split(x: Tensor, groups: int) -> Tensor:
    """Rearrange (B, D, T) to (T, B, G, D / G)."""
    return torch.unflatten(x, 1, (groups, -1)).permute(3, 0, 1, 2)


def join(x: Tensor) -> Tensor:
    """Rearrange (T, B, G, P) to (B, G * P, T)."""
    return x.permute(1, 2, 3, 0).flatten(1, 2)


def _chunk_slices(length: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]


def forward(inputs: ScanInputs, save_states: bool) -> Results:
    """Implement `Kernel.forward` for sequences of any dtype on any device."""
    u, D, z = inputs.u, inputs.D, inputs.z
    with torch.autocast(u.device.type, enabled=False):
        batch, channels, length = u.shape
        groups, states = inputs.B.shape[1], inputs.A.shape[1]
        dtype = compute_dtype(u)
        out = torch.empty(u.shape, dtype=u.dtype, device=u.device)
        chunks = chunk_count(inputs) if save_states else 0
        saved = u.new_empty(batch, chunks, states, channels, dtype=dtype)
        shape = (batch, groups, channels // groups, states)
        if inputs.initial_state is None:
            state = u.new_zeros(shape, dtype=dtype)
        else:
            state = inputs.initial_state.to(dtype).reshape(shape)
        for index, steps in enumerate(_chunk_slices(length)):
            if save_states:
                saved[:, index] = state.flatten(1, 2).transpose(1, 2)
            chunk = _Chunk(inputs, steps)
            h = linear_scan(chunk.log_decay, chunk.decay, chunk.drive, state)
            y = join((h @ chunk.C[..., None]).squeeze(-1))
            if D is not None:
                y = y + D.to(dtype)[:, None] * u[..., steps].to(dtype)
            if z is not None:
                y = y * F.silu(z[..., steps].to(dtype))
            out[..., steps] = y
            state = h[-1]
        return out, state.flatten(1, 2).clone(), saved


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """Implement `Kernel.backward` for sequences of any dtype on any device."""
    u, A, D, z = inputs.u, inputs.A, inputs.D, inputs.z
    with torch.autocast(u.device.type, enabled=False):
        groups = inputs.B.shape[1]
        dtype = compute_dtype(u)
        du, ddelta, dB, dC = (
            torch.empty(t.shape, dtype=t.dtype, device=t.device)
            for t in (u, inputs.delta, inputs.B, inputs.C)
        )
        dz = None if z is None else torch.empty(z.shape, dtype=z.dtype, device=z.device)
        dA = torch.zeros(A.shape, dtype=dtype, device=A.device)
        dD = torch.zeros(A.shape[0], dtype=dtype, device=A.device)
        dbias = torch.zeros_like(dD)
        carry = torch.zeros_like(saved[:, 0]) if dlast is None else dlast.to(dtype).transpose(1, 2)
        carry = torch.unflatten(carry.transpose(1, 2), 1, (groups, -1))  # (B, G, P, N), a_t dh_t
        for index, steps in reversed(list(enumerate(_chunk_slices(u.shape[-1])))):
            chunk = _Chunk(inputs, steps)
            start = torch.unflatten(saved[:, index].transpose(1, 2), 1, (groups, -1))
            h = linear_scan(chunk.log_decay, chunk.decay, chunk.drive, start)
            dy = split(dout[..., steps].to(dtype), groups)
            skip = None if D is None else torch.unflatten(D.to(dtype), 0, (groups, -1))  # (G, P)
            if z is not None and dz is not None:
                y = (h @ chunk.C[..., None]).squeeze(-1)
                if skip is not None:
                    y = y + skip * chunk.u
                gate = split(z[..., steps].to(dtype), groups)
                sigmoid = torch.sigmoid(gate)
                dz[..., steps] = join(dy * y * sigmoid * (1 + gate * (1 - sigmoid)))
                dy = dy * gate * sigmoid
            # c_t = a_t dh_t follows the same recurrence in reverse: c_t = a_t (c_(t+1) + C_t dy_t).
            from_out = dy[..., None] * chunk.C[..., None, :]
            carries = linear_scan(
                chunk.log_decay.flip(0),
                chunk.decay.flip(0),
                (chunk.decay * from_out).flip(0),
                carry,
            ).flip(0)
            dh = from_out + torch.cat([carries[1:], carry[None]])
            carry = carries[0]

            through_decay = dh * (h - chunk.drive)  # dh_t a_t h_(t-1)
            dx = (dh @ chunk.B[..., None]).squeeze(-1)
            draw = (through_decay * chunk.A).sum(-1) + dx * chunk.u
            if inputs.delta_softplus:
                draw = draw * torch.sigmoid(chunk.raw_delta)
            dstep = dx * chunk.delta
            if skip is not None:
                dstep = dstep + skip * dy
            du[..., steps] = join(dstep)
            ddelta[..., steps] = join(draw)
            dB[..., steps] = (chunk.x[..., None, :] @ dh).squeeze(-2).permute(1, 2, 3, 0)
            dC[..., steps] = (dy[..., None, :] @ h).squeeze(-2).permute(1, 2, 3, 0)
            dA += torch.einsum("tbgpn,tbgp->gpn", through_decay, chunk.delta).flatten(0, 1)
            dD += (dy * chunk.u).sum((0, 1)).flatten()
            dbias += draw.sum((0, 1)).flatten()
        return {
            "u": du,
            "delta": ddelta,
            "A": dA,
            "B": dB,
            "C": dC,
            "D": dD,
            "z": dz,
            "delta_bias": dbias,
            "initial_state": carry.flatten(1, 2),
        }
