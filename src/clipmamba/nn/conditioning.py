"""Style conditioning: from a point in CLIP's space to scales and shifts of feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StyleAffine(nn.Module):
    """Scales and shifts every channel by the style (feature-wise linear modulation).

    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018. It keeps
    the photo's own brightness and contrast, which `StyleNorm` removes.

    Args:
        channels: Channels C of the feature map.
        code_dim: Width of the style code.
    """

    def __init__(self, channels: int, code_dim: int):
        super().__init__()
        self.to_affine = nn.Linear(code_dim, 2 * channels)
        nn.init.normal_(self.to_affine.weight, std=0.02)
        nn.init.zeros_(self.to_affine.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Scale and shift (B, C, H, W) by the style code (B, code_dim)."""
        scale, shift = self.to_affine(code).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


class PictureMoments(dict[nn.Module, tuple[Tensor, Tensor]]):
    """Variance and mean of every `StyleNorm`'s input over a whole picture.

    Passes over its tiles share it, so that all tiles are normalized alike.
    """

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moments of `norm`; on the first call, compute them from x, (B, C, H, W)."""
        if norm not in self:
            self[norm] = moments(x)
        return self[norm]

    def rows(self, selection: slice) -> PictureMoments:
        """Select pictures of the batch, without gradient."""
        selected = PictureMoments()
        for norm, (variance, mean) in self.items():
            selected[norm] = (variance[selection].detach(), mean[selection].detach())
        return selected


class Surveyed(Exception):  # noqa: N818 - no error: the rest of the network need not run
    """A tile's part in the moments that `TileMoments` gathers is known."""


class TileMoments(PictureMoments):
    """Accumulates the moments of one more norm of a whole picture, over its tiles.

    Args:
        known: Moments of all earlier norms, from previous passes over the tiles.
    """

    def __init__(self, known: PictureMoments):
        super().__init__(known)
        self.weights = torch.ones(1, 1)
        self.device = torch.device("cpu")
        self._norm: nn.Module | None = None
        self._sums = torch.zeros(3, 1, 1, 1, 1, dtype=torch.float64, device="cpu")

    def begin(self, weights: Tensor) -> None:
        """Start a tile, whose pixels have these `weights` (H, W)."""
        self.weights = weights

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return known moments, or accumulate x, the input of `norm` in this tile.

        Raises:
            Surveyed: The moments were not known; x is accumulated.
        """
        if norm in self:
            return self[norm]
        size = (x.shape[2], x.shape[3])
        share = F.adaptive_avg_pool2d(self.weights[None, None].to(x.device), size)
        total = share.sum()
        share = share / total
        mean = (x.float() * share).sum((2, 3), keepdim=True)
        variance = ((x.float() - mean).square() * share).sum((2, 3), keepdim=True)
        self.device = x.device
        # In float64 to avoid rounding errors, on the CPU since not every accelerator supports it.
        count, mean, variance = (part.cpu().double() for part in (total, mean, variance))
        found = torch.stack([count.expand_as(mean), count * mean, count * (variance + mean**2)])
        self._norm, self._sums = norm, self._sums + found
        raise Surveyed

    def gathered(self) -> PictureMoments:
        """Return the known moments and those over all tiles so far."""
        whole = PictureMoments(self)
        if self._norm is not None:
            count, total, squares = self._sums
            mean = total / count
            variance = (squares / count - mean**2).clamp(min=0)
            whole[self._norm] = (variance.float().to(self.device), mean.float().to(self.device))
        return whole


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute variance and mean of (B, C, H, W) over positions, both (B, C, 1, 1), in float32."""
    # two passes: `torch.var_mean` is up to 20 times slower on a CPU
    x = x.float()
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean).square().mean((2, 3), keepdim=True), mean


class StyleNorm(StyleAffine):
    """Instance normalization before the style's scale and shift (adaptive instance norm).

    Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization", ICCV 2017.
    """

    def forward(self, x: Tensor, code: Tensor, whole: PictureMoments | None = None) -> Tensor:
        """Normalize (B, C, H, W) per picture and channel, then scale and shift.

        Args:
            x: Feature maps (B, C, H, W).
            code: Style codes (B, code_dim).
            whole: Moments of the whole picture if `x` is one of its tiles; None for `x`'s own.
        """
        scale, shift = self.to_affine(code).float()[:, :, None, None].chunk(2, dim=1)
        variance, mean = moments(x) if whole is None else whole.of(self, x)
        factor = torch.rsqrt(variance + 1e-4) * (1 + scale)
        return torch.addcmul((shift - mean * factor).to(x.dtype), x, factor.to(x.dtype))
