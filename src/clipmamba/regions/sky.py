"""The sky, by a small network of the package: no extra, no network.

A U-Net of depthwise convolutions that sees the whole photo at 128 pixels, so that it knows a white
wall from a white sky by what stands below; its card says how it was trained.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipmamba.io.convert import resize
from clipmamba.regions.edges import follow_edges
from clipmamba.weights import ROOT, check_shapes, loading, read_tensors

SIDE = 128  # pixels that the network sees of each side, whatever the photo's aspect ratio
LEAST_SHARE = 0.01  # of the photo: less is no sky but a doubt
_FILE = ROOT / "sky" / "sky.safetensors"


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class SkyNetwork(nn.Module):
    """Pictures (B, 3, 128, 128) in [0, 1] to logits of sky (B, 1, 64, 64)."""

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 40, 64)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Sequential(
            nn.Conv2d(4, a, 3, 2, 1, bias=False), nn.BatchNorm2d(a), nn.SiLU(), _separable(a, a)
        )
        self.half = nn.Sequential(_separable(a, b, 2), _separable(b, b))
        self.quarter = nn.Sequential(_separable(b, c, 2), _separable(c, c), _separable(c, c))
        self.eighth = nn.Sequential(_separable(c, d, 2), *(_separable(d, d) for _ in range(3)))
        self.whole = nn.Linear(d, d)
        self.up = nn.ModuleList([_separable(d + c, c), _separable(c + b, b), _separable(b + a, a)])
        self.out = nn.Conv2d(a, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of sky."""
        height = torch.linspace(-1, 1, pictures.shape[2]).to(pictures)[:, None]
        height = height.expand(len(pictures), 1, -1, pictures.shape[3])
        seen = [self.stem(torch.cat([pictures * 2 - 1, height], 1))]
        for stage in (self.half, self.quarter, self.eighth):
            seen.append(stage(seen[-1]))
        x = seen.pop()
        x = x + self.whole(x.mean((2, 3)))[..., None, None]  # what kind of photo this is
        for block in self.up:
            below = seen.pop()
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), below], 1))
        logits: Tensor = self.out(x)
        return logits


def mask_sky(photo: Tensor) -> Tensor:
    """A soft mask of the sky, (1, 1, H, W); all 0 where there is none.

    Args:
        photo: sRGB in [0, 1], (1, 3, H, W).

    Raises:
        WeightsError: The network's weights are missing or damaged.
    """
    with torch.inference_mode():
        rough = _load().to(photo.device)(resize(photo, SIDE, SIDE).clamp(0, 1)).sigmoid()
    rough = rough.clone()
    if (rough > 0.5).float().mean() < LEAST_SHARE:
        return photo.new_zeros(1, 1, *photo.shape[2:])
    return follow_edges(rough, photo)


@functools.cache
def _load() -> SkyNetwork:
    with loading():
        network = SkyNetwork()
        tensors, _ = read_tensors(_FILE)
        check_shapes(_FILE, tensors, network.state_dict())
        network.load_state_dict(tensors)
        return network.eval().requires_grad_(False)
