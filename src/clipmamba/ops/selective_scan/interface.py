"""What a call of the scan looks like to a backend, and what a backend must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 256
"""Steps between two saved states: forward keeps the state only at each chunk's start."""

Verdict = tuple[bool, str]
"""Yes or no, with the reason."""


@dataclass(frozen=True)
class ScanCall:
    """The facts about one call that decide which backend can run it.

    Attributes:
        device: where the tensors are.
        dtypes: element types of u, delta, B, C and, if given, z.
        batch: B. channels: D. states: N. groups: G. length: L.
        needs_grad: a gradient of any input will be wanted.
        last_state_grad: the last state is returned and a gradient may come back through it.
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


ScanFunction = Callable[
    [
        Tensor,  # u (B, D, L)
        Tensor,  # delta (B, D, L)
        Tensor,  # A (D, N)
        Tensor,  # B (B, G, N, L)
        Tensor,  # C (B, G, N, L)
        Tensor | None,  # D (D)
        Tensor | None,  # z (B, D, L)
        Tensor | None,  # delta_bias (D)
        bool,  # delta_softplus
        bool,  # needs_grad
    ],
    tuple[Tensor, Tensor],  # out (B, D, L), last state (B, D, N)
]


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
