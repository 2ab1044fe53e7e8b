"""What a call of the scan looks like to a backend, and what a backend must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from clipmamba.errors import InputError

CHUNK = 256
"""Steps between two saved states: forward keeps the state only at each chunk's start."""

STRIP = 16
"""Columns of a picture that the fused kernels read together."""

Verdict = tuple[bool, str]
"""Yes or no, with the reason."""


class ScanCall(NamedTuple):
    """The facts about one call that decide which backend can run it.

    Attributes:
        device: where the tensors are.
        dtypes: element types of u, delta, B, C and, if given, z.
        batch: B. channels: D. states: N. groups: G. length: L.
        needs_grad: a gradient of any input will be wanted.
        last_state_grad: the last state is returned and a gradient may come back through it.
        initial_state: the scan does not start from zeros.
    """

    device: torch.device
    dtypes: frozenset[torch.dtype]
    batch: int
    channels: int
    states: int
    groups: int
    length: int
    needs_grad: bool
    last_state_grad: bool
    initial_state: bool


class ScanInputs(NamedTuple):
    """What every backend computes with; letters as in `clipmamba.ops.selective_scan`.

    Attributes:
        u: (B, D, L), floating. float64 is computed in float64, everything else in float32.
        delta: (B, D, L).
        A: (D, N).
        B: (B, G, N, L).
        C: (B, G, N, L).
        D: (D) or None.
        z: (B, D, L) or None.
        delta_bias: (D) or None.
        initial_state: (B, D, N) or None.
        delta_softplus: whether delta + delta_bias goes through softplus.
        least_delta: added to the step sizes after that.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    delta_softplus: bool
    least_delta: float = 0.0

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All but the flag and the number: what has a gradient."""
        return self[:-2]

    def call(self, last_state: bool) -> ScanCall:
        """The facts of a call with these inputs that returns the last state or not."""
        tensors = [t for t in (self.u, self.delta, self.B, self.C, self.z) if t is not None]
        needs_grad = torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in self.tensors
        )
        batch, channels, length = self.delta.shape
        return ScanCall(
            device=self.u.device,
            dtypes=frozenset(t.dtype for t in tensors),
            batch=batch,
            channels=channels,
            states=self.A.shape[1],
            groups=self.B.shape[1],
            length=length,
            needs_grad=needs_grad,
            last_state_grad=last_state and needs_grad,
            initial_state=self.initial_state is not None,
        )


def check_inputs(inputs: ScanInputs, caller: str) -> None:
    """Refuse what no backend can run.

    Args:
        inputs: as the caller got them, B and C with groups.
        caller: name of the public function, for the message.

    Raises:
        InputError: shapes that don't fit, complex or integer tensors, several devices.
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state, _, least_delta = inputs
    if u.ndim != 3 or A.ndim != 2 or B.ndim != 4 or 0 in u.shape or A.shape[1] == 0:
        raise InputError(
            f"{caller} wants u (B, D, L), A (D, N) and B (B, N, L) or (B, G, N, L), none of "
            f"them empty, not {tuple(u.shape)}, {tuple(A.shape)}, {tuple(B.shape)}"
        )
    batch, channels, length = u.shape
    groups, states = B.shape[1], A.shape[1]
    wanted = (
        ("u", u, (batch, channels, length)),
        ("delta", delta, (batch, channels, length)),
        ("A", A, (channels, states)),
        ("B", B, (batch, groups, states, length)),
        ("C", C, (batch, groups, states, length)),
        ("D", D, (channels,)),
        ("z", z, (batch, channels, length)),
        ("delta_bias", delta_bias, (channels,)),
        ("initial_state", initial_state, (batch, channels, states)),
    )
    for name, tensor, shape in wanted:
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise InputError(f"{caller}: {name} is {tuple(tensor.shape)}, not {shape}")
        if not tensor.dtype.is_floating_point:
            raise InputError(f"{caller}: {name} is {tensor.dtype}, not a real floating type")
        if tensor.device != u.device:
            raise InputError(f"{caller}: {name} is on {tensor.device}, u on {u.device}")
    if channels % groups:
        raise InputError(f"{caller}: {channels} channels can't be split in {groups} groups")
    if not 0 <= least_delta < float("inf"):
        raise InputError(f"{caller}: least_delta must be a number from 0 up, not {least_delta}")


ScanFunction = Callable[[ScanInputs, bool], tuple[Tensor, Tensor]]
"""Inputs and whether a gradient will be wanted, to out (B, D, L) and last state (B, D, N)."""


@dataclass(frozen=True)
class Backend:
    """One way to run the scan.

    Attributes:
        name: what users write.
        available: can it run on this machine at all? Probed once; the reason is kept.
        supports: can it run this very call?
        scan: the differentiable scan on checked inputs.
    """

    name: str
    available: Callable[[], Verdict]
    supports: Callable[[ScanCall], Verdict]
    scan: ScanFunction


def compute_dtype(u: Tensor) -> torch.dtype:
    """Type of the state and of the arithmetic: float64 if u is, else float32."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def chunk_count(length: int) -> int:
    """How many chunk-start states a sequence of this length has."""
    return (length + CHUNK - 1) // CHUNK


def picture_chunks(height: int, width: int) -> int:
    """How many chunk-start states the longest of a picture's four directions has.

    Rows are one sequence; columns go in strips, each of which begins a chunk.
    """
    strips = (width + STRIP - 1) // STRIP
    return max(chunk_count(height * width), strips * chunk_count(STRIP * height))
