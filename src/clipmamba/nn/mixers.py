"""Token mixers over the picture: selective scan, attention, convolution.

All map (B, H, W, C) to (B, H, W, C) and take the style code, so that the same network can be built
with each of them, for comparison.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn.mamba import init_scan_parameters
from clipmamba.ops import cross_selective_scan
from clipmamba.ops.selective_scan.lines import scan_lines

DIRECTIONS = 4
WIPE = 1000.0  # a step size that resets the state


class MambaMixer(nn.Module):
    """Mamba's selective scan (S6) along rows and columns, both ways, modulated by the style.

    Every row and column is scanned separately.

    Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023; the four
    directions as in Liu et al., "VMamba", 2024. The style shifts the low-rank code of the step
    size and scales the output map C of every direction.

    Args:
        dim: Channels C.
        code_dim: Width of the style code.
        state: States N per channel.
        rank: Rank of the step size projection; 0 for C / 16.
        bend: Whether the style modulates the scan's parameters.
        least_step: Added to every step size, so that states fade after 1 / least_step positions
            and the network generalizes to larger pictures. Without it, a scan may learn to count
            positions, and paint the far end of a large picture differently.
    """

    each_line = False
    """Whether to use `scan_lines`, for exports; same result, but no gradient."""

    def __init__(
        self,
        dim: int,
        code_dim: int,
        state: int = 8,
        rank: int = 0,
        bend: bool = True,
        least_step: float = 0.1,
    ):
        super().__init__()
        self.dim, self.state, self.least_step = dim, state, least_step
        self.rank = rank or max(1, dim // 16)
        self.in_proj = nn.Linear(dim, 2 * dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.x_proj = nn.Linear(dim, DIRECTIONS * (self.rank + 2 * state), bias=False)
        self.delta_weight = nn.Parameter(torch.empty(DIRECTIONS, dim, self.rank))
        self.delta_bias = nn.Parameter(torch.empty(DIRECTIONS * dim))
        self.A_log = nn.Parameter(torch.empty(DIRECTIONS * dim, state))
        self.D = nn.Parameter(torch.ones(DIRECTIONS * dim))
        self.bend = nn.Linear(code_dim, DIRECTIONS * (self.rank + state)) if bend else None
        self.norm = nn.LayerNorm(dim)
        self.out_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the scan as Mamba does, and the style's modulation to a small effect."""
        init_scan_parameters(self.delta_weight, self.delta_bias, self.A_log)
        if self.bend is not None:
            nn.init.normal_(self.bend.weight, std=0.02)
            nn.init.zeros_(self.bend.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Mix (B, H, W, C), given the style code (B, code_dim)."""
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        inner = F.silu(self.local(inner.permute(0, 3, 1, 2)))  # (B, C, H, W)
        scan = self._scan_each_line if self.each_line else self._scan
        y = scan(inner, code)
        mixed: Tensor = self.out_proj(self.norm(y).to(gate.dtype) * F.silu(gate))
        return mixed

    def _scan(self, inner: Tensor, code: Tensor) -> Tensor:
        """Scan the four directions as four long sequences: (B, C, H, W) to (B, H, W, C)."""
        height, width = inner.shape[2:]
        inner = F.pad(inner, (0, 1, 0, 1))
        projected = self.x_proj(inner.permute(0, 2, 3, 1))
        projected = projected.permute(0, 3, 1, 2).unflatten(1, (DIRECTIONS, -1))
        projected = _own_direction(projected)  # (B, 4, R + 2N, L), each in its own order
        delta_code, B, C = torch.split(projected, [self.rank, self.state, self.state], dim=2)

        if self.bend is not None:
            bend = self.bend(code).view(-1, DIRECTIONS, self.rank + self.state, 1)
            bend_delta, bend_C = torch.split(bend, [self.rank, self.state], dim=2)
            delta_code, C = delta_code + bend_delta, C * (1 + bend_C)
        delta = self.delta_weight @ delta_code  # (B, 4, C, L)
        delta = delta + _line_ends(height, width, delta)
        y = cross_selective_scan(
            inner,
            delta.to(inner.dtype),
            -torch.exp(self.A_log.float()),
            B.contiguous(),
            C.to(B.dtype).contiguous(),
            self.D.float(),
            self.delta_bias.float(),
            delta_softplus=True,
            least_delta=self.least_step,
        )
        return y[:, :, :height, :width].permute(0, 2, 3, 1)

    def _scan_each_line(self, inner: Tensor, code: Tensor) -> Tensor:
        """Compute `_scan` with all rows, or all columns, in parallel.

        Exports run this several times as fast: it has few steps, and transposes only its input and
        output.
        """
        sizes = [self.rank, self.state, self.state]
        into = self.x_proj.weight.chunk(DIRECTIONS)
        A = (-torch.exp(self.A_log.float())).chunk(DIRECTIONS)
        D, delta_bias = (t.float().chunk(DIRECTIONS) for t in (self.D, self.delta_bias))
        bend = None
        if self.bend is not None:
            bend = self.bend(code).view(len(code), DIRECTIONS, 1, -1).unbind(1)  # (B, 1, R + N)
        # (B, H, W, C), by way of (B, H * W, C): ONNX Runtime would fuse a direct transposition with
        # the next one, and run the result four times as slowly
        pixels = inner.flatten(2).transpose(1, 2).reshape(-1, *inner.shape[2:], self.dim)
        both: list[Tensor] = []
        for order in ((2, 0, 1, 3), (1, 0, 2, 3)):  # steps along a row, then along a column
            lines = pixels.permute(order)  # (steps, B, lines, C)
            first = 2 * len(both)
            y = lines * (D[first] + D[first + 1])
            ways = []
            for way in (first, first + 1):
                delta_code, B, C = torch.split(F.linear(lines, into[way]), sizes, dim=-1)
                if bend is not None:
                    bend_delta, bend_C = torch.split(bend[way], sizes[:2], dim=-1)
                    delta_code, C = delta_code + bend_delta, C * (1 + bend_C)
                found = (F.linear(delta_code, self.delta_weight[way]), B, C)
                ways.append([t.flatten(1, 2) for t in found])
            u, own = lines.flatten(1, 2), slice(first, first + 2)
            deltas, Bs, Cs = zip(*ways, strict=True)
            scanned = scan_lines(u, deltas, A[own], Bs, Cs, delta_bias[own], self.least_step)
            y = y + scanned.view_as(y)
            both.append(y)
        return both[0].permute(1, 2, 0, 3) + both[1].permute(1, 0, 2, 3)


def _line_ends(height: int, width: int, like: Tensor) -> Tensor:
    """Make step sizes (4, 1, L) that reset the state after the end of every line.

    Lines are padded with a zero, so that these steps add nothing to the state.
    """
    ends = like.new_full((1, 1, height + 1, width + 1), WIPE)
    ends[..., :height, :width] = 0
    return _own_direction(ends.expand(1, DIRECTIONS, -1, -1)[:, :, None])[0]


def _own_direction(x: Tensor) -> Tensor:
    """Flatten each direction's own map of (B, 4, C, H, W) in its scan order: (B, 4, C, L)."""
    rows, rows_back, columns, columns_back = x.unbind(1)
    return torch.stack(
        [
            rows.flatten(2),
            rows_back.flatten(2).flip(-1),
            columns.transpose(2, 3).flatten(2),
            columns_back.transpose(2, 3).flatten(2).flip(-1),
        ],
        dim=1,
    )


class AttentionMixer(nn.Module):
    """Multi-head self-attention over all positions: quadratic in pixels, for comparison.

    Args:
        dim: Channels C.
        code_dim: Unused; the style enters through the block's normalization.
        head_dim: Minimum channels per head; increased until heads divide the width.
    """

    def __init__(self, dim: int, code_dim: int, head_dim: int = 32):
        super().__init__()
        most = max(1, dim // head_dim)
        self.heads = next(heads for heads in range(most, 0, -1) if dim % heads == 0)
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)  # encodes positions
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Mixes (B, H, W, C)."""
        batch, height, width, dim = x.shape
        x = x + self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        qkv = self.in_proj(x.reshape(batch, height * width, dim))
        q, k, v = qkv.view(batch, -1, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, height, width, dim)
        out: Tensor = self.out_proj(mixed)
        return out


class ConvMixer(nn.Module):
    """A gated 7×7 depthwise convolution: local, linear in pixels, for comparison.

    Args:
        dim: Channels C.
        code_dim: Unused; the style enters through the block's normalization.
    """

    def __init__(self, dim: int, code_dim: int):
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * dim)
        self.local = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Mixes (B, H, W, C)."""
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        inner = self.local(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.out_proj(inner * F.silu(gate))
        return out


def make_mixer(
    kind: str,
    dim: int,
    code_dim: int,
    state: int,
    bend: bool = True,
    least_step: float = 0.1,
) -> nn.Module:
    """Build a mixer by name: "mamba", "attention" or "conv".

    Raises:
        ValueError: The name is unknown.
    """
    if kind == "mamba":
        return MambaMixer(dim, code_dim, state, bend=bend, least_step=least_step)
    if kind == "attention":
        return AttentionMixer(dim, code_dim)
    if kind == "conv":
        return ConvMixer(dim, code_dim)
    raise ValueError(f"mixer must be 'mamba', 'attention' or 'conv', not {kind!r}")
