"""Mamba's own block: a causal sequence mixer, whole, in pieces or step by step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.ops import selective_scan, selective_scan_step


@torch.no_grad()
def init_scan_parameters(
    delta_weight: Tensor,
    delta_bias: Tensor,
    A_log: Tensor,
    steps: tuple[float, float] = (0.001, 0.1),
) -> None:
    """Mamba's initialization, in place: A = -(1…N), step sizes log-uniform in a range.

    Args:
        delta_weight: (..., R), from the step size's code of width R to the step sizes.
        delta_bias: (D), such that softplus gives the steps.
        A_log: (D, N), the logarithm of -A.
        steps: Smallest and largest step size. A state of A = -1 fades to 1/e in 1 / step steps.
    """
    low, high = map(math.log, steps)
    rank, states = delta_weight.shape[-1], A_log.shape[-1]
    delta_weight.uniform_(-(rank**-0.5), rank**-0.5)
    delta = torch.exp(torch.rand_like(delta_bias) * (high - low) + low)
    delta_bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus inverse
    A_log.copy_(torch.arange(1, states + 1).float().log().expand_as(A_log))


class MambaState(NamedTuple):
    """What a `MambaBlock` remembers of a sequence so far; its size does not grow."""

    recent: Tensor
    """(B, W - 1, E), the last inputs of the convolution."""
    hidden: Tensor
    """(B, E, N), the state of the scan, in float32 or float64."""


class MambaBlock(nn.Module):
    """Mamba's selective state space block: causal, linear in the length of the sequence.

    Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, figure 3.
    Parameters have the names and shapes of `mamba_ssm.Mamba`, whose weights load here.

        block = MambaBlock(64)
        out = block(x)  # (B, L, 64)

        out, state = block.extend(x[:, :100])  # the same in pieces,
        more, state = block.extend(x[:, 100:], state)

        out, state = block.step(x[:, 0], block.start(len(x)))  # or step by step

    Args:
        dim: Channels C.
        state: States N per channel.
        width: Steps W that the convolution sees: this one and those before it.
        expand: Inner channels E in C.
        rank: Rank of the step size's projection; C / 16, rounded up, where 0.
        steps: Smallest and largest step size at the start of training.
    """

    def __init__(
        self,
        dim: int,
        state: int = 16,
        width: int = 4,
        expand: int = 2,
        rank: int = 0,
        steps: tuple[float, float] = (0.001, 0.1),
    ):
        super().__init__()
        self.dim, self.state, self.width, self.inner = dim, state, width, expand * dim
        self.rank = rank or math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * self.inner, bias=False)
        self.conv1d = nn.Conv1d(self.inner, self.inner, width, groups=self.inner)
        self.x_proj = nn.Linear(self.inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.inner)
        self.A_log = nn.Parameter(torch.empty(self.inner, state))
        self.D = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, dim, bias=False)
        init_scan_parameters(self.dt_proj.weight, self.dt_proj.bias, self.A_log, steps)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes whole sequences (B, L, C); step t sees the steps up to t."""
        return self.extend(x)[0]

    def start(self, batch: int) -> MambaState:
        """The state before the first step of `batch` sequences."""
        weight = self.conv1d.weight
        hidden_dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        return MambaState(
            weight.new_zeros(batch, self.width - 1, self.inner),
            weight.new_zeros(batch, self.inner, self.state, dtype=hidden_dtype),
        )

    def extend(self, x: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """Mixes the next piece of sequences: all pieces together are the whole.

        Args:
            x: (B, L, C), of any length L from 1.
            state: After the piece before; the sequence starts here where missing.

        Returns:
            out (B, L, C) and the state after it. Gradients flow through both.

        Raises:
            InputError: x is no such piece, or the state is not of as many sequences.
        """
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != self.dim:
            raise InputError(f"MambaBlock wants (B, L, {self.dim}), L > 0, not {tuple(x.shape)}")
        self._check(state, len(x))
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        before = self.start(len(x)).recent if state is None else state.recent
        padded = torch.cat([before.to(inner.dtype), inner], dim=1)
        u = F.silu(self.conv1d(padded.transpose(1, 2)))  # (B, E, L)
        delta, B, C = self._selection(u.transpose(1, 2))
        y, hidden = selective_scan(
            u,
            delta.transpose(1, 2),
            -torch.exp(self.A_log),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D,
            gate.transpose(1, 2),
            self.dt_proj.bias,
            delta_softplus=True,
            return_last_state=True,
            initial_state=None if state is None else state.hidden,
        )
        out: Tensor = self.out_proj(y.transpose(1, 2))
        return out, MambaState(padded[:, x.shape[1] :], hidden)

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Mixes one step: constant time and memory, however long the sequence so far.

        Args:
            x: (B, C).
            state: After the step before, or `start(B)`; it is not changed.

        Returns:
            out (B, C) and the next state. Gradients flow through both.

        Raises:
            InputError: x is no such step, or the state is not of as many sequences.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise InputError(f"MambaBlock.step wants (B, {self.dim}), not {tuple(x.shape)}")
        self._check(state, len(x))
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        seen = torch.cat([state.recent.to(inner.dtype), inner[:, None]], dim=1)  # (B, W, E)
        u = F.silu(self.conv1d(seen.transpose(1, 2)).squeeze(-1))  # (B, E)
        delta, B, C = self._selection(u)
        y, hidden = selective_scan_step(
            state.hidden,
            u,
            delta,
            -torch.exp(self.A_log),
            B,
            C,
            self.D,
            gate,
            self.dt_proj.bias,
            delta_softplus=True,
        )
        out: Tensor = self.out_proj(y)
        return out, MambaState(seen[:, 1:], hidden)

    def _check(self, state: MambaState | None, batch: int) -> None:
        if state is not None and len(state.recent) != batch:
            raise InputError(
                f"the state is of {len(state.recent)} sequences and x of {batch}; "
                "start(B) makes a new one"
            )

    def _selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (..., E) what makes the scan selective: delta without its bias, B and C."""
        projected = self.x_proj(u)
        code, B, C = torch.split(projected, [self.rank, self.state, self.state], dim=-1)
        return F.linear(code, self.dt_proj.weight), B, C
