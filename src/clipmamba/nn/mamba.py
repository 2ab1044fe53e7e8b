"""Mamba's own block: a causal sequence mixer for whole sequences, pieces or single steps."""

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
    """Initialize in place as Mamba does: A = -(1…N), step sizes log-uniform in a range.

    Args:
        delta_weight: (..., R), projects the step sizes' code of width R.
        delta_bias: (D,), chosen so that softplus gives the step sizes.
        A_log: (D, N), the logarithm of -A.
        steps: Smallest and largest step size. A state with A = -1 fades to 1/e in 1 / step size
            steps.
    """
    low, high = map(math.log, steps)
    rank, states = delta_weight.shape[-1], A_log.shape[-1]
    delta_weight.uniform_(-(rank**-0.5), rank**-0.5)
    delta = torch.exp(torch.rand_like(delta_bias) * (high - low) + low)
    delta_bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus inverse
    A_log.copy_(torch.arange(1, states + 1).float().log().expand_as(A_log))


class MambaState(NamedTuple):
    """The state of a `MambaBlock` after part of a sequence; its size is constant."""

    recent: Tensor
    """(B, W - 1, E), the last inputs of the convolution."""
    hidden: Tensor
    """(B, E, N), the state of the scan, in float32 or float64."""


class MambaBlock(nn.Module):
    """Mamba's selective state space block: causal, linear in the length of the sequence.

    Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, figure 3.
    Parameters have the names and shapes of `mamba_ssm.Mamba`, so its weights can be loaded.

        block = MambaBlock(64)
        out = block(x)  # (B, L, 64)

        out, state = block.extend(x[:, :100])  # the same in pieces,
        more, state = block.extend(x[:, 100:], state)

        out, state = block.step(x[:, 0], block.start(len(x)))  # or step by step

    Args:
        dim: Channels C.
        state: States N per channel.
        width: Kernel width W of the causal convolution, in steps.
        expand: Factor of the inner width, E = expand * C.
        rank: Rank of the step size's projection; 0 for C / 16, rounded up.
        steps: Smallest and largest initial step size.
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
        """Mix whole sequences (B, L, C); step t depends on steps up to t only."""
        return self.extend(x)[0]

    def start(self, batch: int) -> MambaState:
        """Make the state before the first step, for `batch` sequences."""
        weight = self.conv1d.weight
        hidden_dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        return MambaState(
            weight.new_zeros(batch, self.width - 1, self.inner),
            weight.new_zeros(batch, self.inner, self.state, dtype=hidden_dtype),
        )

    def extend(self, x: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """Mix the next piece of sequences; the pieces give the same as the whole.

        Args:
            x: (B, L, C), L at least 1.
            state: The state after the previous piece; None at the start of the sequence.

        Returns:
            out (B, L, C) and the state after it. Both are differentiable.

        Raises:
            InputError: x has another shape, or the state another batch size.
        """
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != self.dim:
            raise InputError(f"MambaBlock needs (B, L, {self.dim}), L > 0, not {tuple(x.shape)}")
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
        """Mix one step, in constant time and memory, however long the sequence so far.

        Args:
            x: (B, C).
            state: The state after the previous step, or `start(B)`; it is not changed.

        Returns:
            out (B, C) and the next state. Both are differentiable.

        Raises:
            InputError: x has another shape, or the state another batch size.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise InputError(f"MambaBlock.step needs (B, {self.dim}), not {tuple(x.shape)}")
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
                f"the state has {len(state.recent)} sequences and x has {batch}; "
                "start(B) makes a new one"
            )

    def _selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the input-dependent parameters from (..., E): delta without its bias, B and C."""
        projected = self.x_proj(u)
        code, B, C = torch.split(projected, [self.rank, self.state, self.state], dim=-1)
        return F.linear(code, self.dt_proj.weight), B, C
