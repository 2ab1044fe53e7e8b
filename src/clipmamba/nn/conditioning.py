"""Style conditioning: from a point in CLIP's space to scales and shifts of feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StyleProjection(nn.Module):
    """Maps a style embedding to the code that conditions every layer.

    Args:
        style_dim: Width E of the style embedding.
        code_dim: Width of the code.
    """

    def __init__(self, style_dim: int, code_dim: int):
        super().__init__()
        self.scale = style_dim**0.5  # from unit rows to unit variance
        self.net = nn.Sequential(
            nn.Linear(style_dim, code_dim), nn.SiLU(), nn.Linear(code_dim, code_dim), nn.SiLU()
        )
        self.guidance = 1.0
        self._middle = torch.zeros(code_dim)

    @torch.no_grad()
    def guide(self, styles: Tensor, guidance: float) -> None:
        """Extrapolate style codes away from their mean.

        A network trained on many styles gives each a little of the others. StyleGAN's truncation
        (Karras et al., CVPR 2019) pulls codes toward their mean; a factor above 1 does the
        opposite.

        Args:
            styles: Unit embeddings (N, E) of many different styles, for the mean code.
            guidance: Factor on a code's distance from the mean; 1 leaves codes as trained.
        """
        self.guidance = 1.0
        self._middle = self(styles).mean(0)
        self.guidance = guidance

    def forward(self, style: Tensor) -> Tensor:
        """Map unit style embeddings (B, E) to codes (B, code_dim)."""
        code: Tensor = self.net(style * self.scale)
        if self.guidance == 1:
            return code
        return torch.lerp(self._middle.to(code).expand_as(code), code, self.guidance)


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


class TileMoments(PictureMoments):
    """Accumulates the moments of a whole picture over its tiles.

    Args:
        known: Moments of earlier norms, from previous passes over the tiles. A norm's moments are
            correct only if those of all norms before it are known.
    """

    def __init__(self, known: PictureMoments):
        super().__init__(known)
        self.weights = torch.ones(1, 1)
        self.device = torch.device("cpu")
        self._sums: dict[nn.Module, Tensor] = {}

    def begin(self, weights: Tensor) -> None:
        """Start a tile, whose pixels have these `weights` (H, W)."""
        self.weights = weights

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Accumulate x, the input of `norm` in this tile; return the moments to normalize with."""
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
        self._sums[norm] = self._sums[norm] + found if norm in self._sums else found
        return super().of(norm, x)

    def gathered(self) -> PictureMoments:
        """Return the moments over all tiles so far."""
        whole = PictureMoments()
        for norm, (count, total, squares) in self._sums.items():
            mean = total / count
            variance = (squares / count - mean**2).clamp(min=0)
            whole[norm] = (variance.float().to(self.device), mean.float().to(self.device))
        return whole


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute variance and mean of (B, C, H, W) over positions, both (B, C, 1, 1), in float32."""
    return torch.var_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)


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
