"""The sky, by a small network in the package; works offline and without extras.

A U-Net of depthwise convolutions that sees the whole photo at 128 pixels, so that what is below
tells a white wall from a white sky. Its card, weights/sky/README.md, describes the training.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipmamba.io.convert import resize
from clipmamba.regions.edges import follow_edges
from clipmamba.weights import ROOT, check_shapes, loading, read_tensors

SIDE = 128  # pixels of each side of the input, whatever the photo's aspect ratio
LEAST_SHARE = 0.01  # of the photo; less is taken for an error
_FILE = ROOT / "sky" / "sky.safetensors"


def _convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class _Residual(nn.Module):
    """A depthwise convolution, then a mix of the channels, with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.view = nn.Conv2d(width, width, 5, 1, 2, groups=width, bias=False)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(width), nn.Conv2d(width, 2 * width, 1), nn.SiLU(),
            nn.Conv2d(2 * width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.view(x))
        return x + mixed


class SkyNetwork(nn.Module):
    """Maps pictures (B, 3, 128, 128) in [0, 1] to logits of sky (B, 1, 32, 32)."""

    def __init__(self, widths: tuple[int, int, int] = (32, 48, 64)) -> None:
        super().__init__()
        a, b, c = widths
        self.quarter = nn.Sequential(_convolution(4, 16, 2), _convolution(16, a, 2), _Residual(a))
        self.eighth = nn.Sequential(_convolution(a, b, 2), _Residual(b), _Residual(b))
        self.sixteenth = nn.Sequential(_convolution(b, c, 2), *(_Residual(c) for _ in range(3)))
        self.whole = nn.Linear(c, c)
        self.up = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(c + b, b, 1), _Residual(b)),
             nn.Sequential(nn.Conv2d(b + a, a, 1), _Residual(a), _Residual(a))]
        )  # fmt: skip
        self.out = nn.Conv2d(a, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute logits of sky."""
        height = torch.linspace(-1, 1, pictures.shape[2]).to(pictures)[:, None]
        height = height.expand(len(pictures), 1, -1, pictures.shape[3])
        fine = self.quarter(torch.cat([pictures * 2 - 1, height], 1))
        middle = self.eighth(fine)
        x = self.sixteenth(middle)
        x = x + self.whole(x.mean((2, 3)))[..., None, None]  # what kind of photo it is
        for block, beside in zip(self.up, (middle, fine), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), beside], 1))
        logits: Tensor = self.out(x)
        return logits


def mask_sky(photo: Tensor) -> Tensor:
    """Make a soft mask of the sky, (1, 1, H, W); all 0 if there is none.

    Args:
        photo: sRGB in [0, 1], (1, 3, H, W).

    Raises:
        WeightsError: The network's weights are missing or damaged.
    """
    with torch.inference_mode():
        rough = _load(photo.device)(resize(photo, SIDE, SIDE).clamp(0, 1)).sigmoid()
    rough = rough.clone()
    if (rough > 0.5).float().mean() < LEAST_SHARE:
        return photo.new_zeros(1, 1, *photo.shape[2:])
    return follow_edges(rough, photo)


@functools.cache
def _load(device: torch.device) -> SkyNetwork:
    """Load the network, frozen, once per device."""
    with loading():
        network = SkyNetwork()
        tensors, _ = read_tensors(_FILE)
        check_shapes(_FILE, tensors, network.state_dict())
        network.load_state_dict(tensors)
        return network.eval().requires_grad_(False).to(device)
