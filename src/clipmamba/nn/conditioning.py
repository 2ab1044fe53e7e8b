"""How a style enters: a point in CLIP's space becomes scales, shifts and gates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StyleProjection(nn.Module):
    """Turns a style point into the code that every layer reads.

    Args:
        style_dim: Width E of the style point.
        code_dim: Width of the code.
    """

    def __init__(self, style_dim: int, code_dim: int):
        super().__init__()
        self.scale = style_dim**0.5  # unit rows come in; layers like unit variance
        self.net = nn.Sequential(
            nn.Linear(style_dim, code_dim), nn.SiLU(), nn.Linear(code_dim, code_dim), nn.SiLU()
        )
        self.guidance = 1.0
        self._middle = torch.zeros(code_dim)

    @torch.no_grad()
    def guide(self, styles: Tensor, guidance: float) -> None:
        """Extrapolate style codes away from their mean.

        A network that has to please many styles gives each a little of the others. StyleGAN's
        truncation (Karras et al., CVPR 2019) draws codes to their mean; a factor above 1 goes the
        other way.

        Args:
            styles: Unit style points (N, E), from all over; the middle is their codes' mean.
            guidance: Factor of a code's distance from the middle; 1 as trained, whatever `styles`.
        """
        self.guidance = 1.0
        self._middle = self(styles).mean(0)
        self.guidance = guidance

    def forward(self, style: Tensor) -> Tensor:
        """Map unit style points (B, E) to codes (B, code_dim)."""
        code: Tensor = self.net(style * self.scale)
        if self.guidance == 1:
            return code
        return torch.lerp(self._middle.to(code).expand_as(code), code, self.guidance)


class StyleAffine(nn.Module):
    """A scale and a shift of every channel from the style (feature-wise linear modulation).

    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018. It keeps
    the photo's own brightness and contrast, which `StyleNorm` takes away.

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
        """Scales and shifts (B, C, H, W) by the style code (B, code_dim)."""
        scale, shift = self.to_affine(code).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


class PictureMoments(dict[nn.Module, tuple[Tensor, Tensor]]):
    """Variance and mean that every `StyleNorm` found in a whole picture.

    The passes over its tiles read it, so that all tiles are normalized alike.
    """

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `norm` found when it was first asked, which may be now, in (B, C, H, W)."""
        if norm not in self:
            self[norm] = moments(x)
        return self[norm]

    def rows(self, some: slice) -> PictureMoments:
        """Those of some pictures of the batch, without gradient."""
        chosen = PictureMoments()
        for norm, (variance, mean) in self.items():
            chosen[norm] = (variance[some].detach(), mean[some].detach())
        return chosen


class TileMoments(PictureMoments):
    """Gathers the moments of a whole picture from its tiles, one after the other.

    Args:
        known: Of the norms before, as rounds over the tiles found them: those of a norm are right
            if all before it were known.
    """

    def __init__(self, known: PictureMoments):
        super().__init__(known)
        self.weights = torch.ones(1, 1)
        self.device = torch.device("cpu")
        self._sums: dict[nn.Module, Tensor] = {}

    def begin(self, weights: Tensor) -> None:
        """Goes on to a tile, whose pixels count as much as `weights` (H, W) say."""
        self.weights = weights

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Add `norm`'s map of this tile up, and give what to normalize it with."""
        size = (x.shape[2], x.shape[3])
        share = F.adaptive_avg_pool2d(self.weights[None, None].to(x.device), size)
        total = share.sum()
        share = share / total
        mean = (x.float() * share).sum((2, 3), keepdim=True)
        variance = ((x.float() - mean).square() * share).sum((2, 3), keepdim=True)
        self.device = x.device
        # Float64 against rounding, on the CPU because not every accelerator has it.
        count, mean, variance = (part.cpu().double() for part in (total, mean, variance))
        found = torch.stack([count.expand_as(mean), count * mean, count * (variance + mean**2)])
        self._sums[norm] = self._sums[norm] + found if norm in self._sums else found
        return super().of(norm, x)

    def gathered(self) -> PictureMoments:
        """The moments over all tiles so far."""
        whole = PictureMoments()
        for norm, (count, total, squares) in self._sums.items():
            mean = total / count
            variance = (squares / count - mean**2).clamp(min=0)
            whole[norm] = (variance.float().to(self.device), mean.float().to(self.device))
        return whole


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of (B, C, H, W) over its places, both (B, C, 1, 1), in float32."""
    return torch.var_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)


class StyleNorm(StyleAffine):
    """Instance normalization before the style's scale and shift (adaptive instance norm).

    Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization", ICCV 2017.
    """

    def forward(self, x: Tensor, code: Tensor, whole: PictureMoments | None = None) -> Tensor:
        """Normalizes (B, C, H, W) per picture and channel, then scales and shifts.

        Args:
            x: Feature maps (B, C, H, W).
            code: Style codes (B, code_dim).
            whole: Of the picture that `x` is a tile of; `x`'s own moments where missing.
        """
        scale, shift = self.to_affine(code).float()[:, :, None, None].chunk(2, dim=1)
        variance, mean = moments(x) if whole is None else whole.of(self, x)
        factor = torch.rsqrt(variance + 1e-4) * (1 + scale)
        return torch.addcmul((shift - mean * factor).to(x.dtype), x, factor.to(x.dtype))
