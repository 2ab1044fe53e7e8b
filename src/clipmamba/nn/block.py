"""The backbone's block: a mixer and a feed-forward net, both modulated by the style."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn.mixers import make_mixer


class StyleBlock(nn.Module):
    """Adaptive layer norm, mixer, adaptive layer norm, feed-forward; gated residuals.

    Peebles & Xie, "Scalable Diffusion Models with Transformers" (adaLN), ICCV 2023.

    Args:
        dim: Channels C.
        code_dim: Width of the style code.
        mixer: "mamba", "attention" or "conv".
        state: States per channel of the scan.
        expand: Width of the feed-forward net in C.
        bend: Whether the style modulates the scan's parameters.
        least_step: Minimum step size of the scan; states fade after 1 / least_step positions.
        by_line: Whether every row and column is scanned separately.
    """

    def __init__(
        self,
        dim: int,
        code_dim: int,
        mixer: str = "mamba",
        state: int = 16,
        expand: int = 2,
        bend: bool = True,
        least_step: float = 0.05,
        by_line: bool = False,
    ):
        super().__init__()
        self.dim = dim
        self.modulation = nn.Linear(code_dim, 6 * dim)
        self.mixer = make_mixer(mixer, dim, code_dim, state, bend, least_step, by_line)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, expand * dim), nn.GELU(), nn.Linear(expand * dim, dim)
        )
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape, given the style code (B, code_dim)."""
        parts = self.modulation(code)[:, None, None].chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = x + (1 + gate1) * self.mixer(self._norm(x) * (1 + scale1) + shift1, code)
        x = x + (1 + gate2) * self.feed_forward(self._norm(x) * (1 + scale2) + shift2)
        return x

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.dim,), eps=1e-5)
