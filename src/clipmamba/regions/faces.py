"""Faces, by MTCNN (Zhang et al. 2016): three small networks, each stricter than the one before.

The weights are those of the package `mtcnn` (2 MB, MIT). Its code needs TensorFlow, so the networks
are implemented here in torch.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipmamba.errors import WeightsError
from clipmamba.io.convert import resize
from clipmamba.regions.edges import follow_edges
from clipmamba.weights import loading

SMALLEST = 20  # pixels: side of the smallest face to find
_LARGEST_LEVEL = 2_000_000  # pixels of the first level of the pyramid; large photos start coarser
_STEP = 0.709  # from one level of the pyramid to the next: half the area
_FIRST = 12  # pixels: input side of the first network
_PATCHES = 256  # batch size of the other networks, which bounds memory
_SURE = (0.6, 0.7, 0.8)  # threshold of each network


class _Network(nn.Module):
    """Convolutions with PReLU, then several heads, in the order of the weights file.

    Args:
        convolutions: Channels, kernel size, and size of the pooling after it (0: none).
        hidden: Width of the dense layer; 0 for a fully convolutional network.
        outputs: Width of each output.
        places: Positions of the last convolution that the dense layer sees.
    """

    def __init__(
        self,
        convolutions: tuple[tuple[int, int, int], ...],
        hidden: int,
        outputs: tuple[int, ...],
        places: int = 1,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential()
        channels = 3
        for width, side, pool in convolutions:
            self.body.extend([nn.Conv2d(channels, width, side), nn.PReLU(width)])
            if pool:
                self.body.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
            channels = width
        self.dense = nn.Sequential()
        if hidden:
            self.dense.extend([nn.Linear(channels * places, hidden), nn.PReLU(hidden)])
        make = nn.Linear if hidden else functools.partial(nn.Conv2d, kernel_size=1)
        self.heads = nn.ModuleList([make(hidden or channels, width) for width in outputs])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Outputs for pictures (N, 3, H, W) in [-1, 1]; the last is the probability of a face."""
        x = self.body(pictures)
        if len(self.dense):
            x = self.dense(x.permute(0, 3, 2, 1).flatten(1))  # columns first, as in training
        *values, face = (head(x) for head in self.heads)
        return [*values, face.softmax(1)[:, 1]]


def find_faces(photo: Tensor) -> Tensor:
    """Find the faces of a photo.

    Args:
        photo: sRGB in [0, 1], (1, 3, H, W).

    Returns:
        Boxes from brow to chin, (N, 4): left, top, right, bottom in pixels, most likely first.

    Raises:
        WeightsError: The package `mtcnn` is missing or of another version.
    """
    first, second, third = _load(photo.device)
    with torch.inference_mode():
        pixels = photo.mul(255).sub(127.5).div(128)
        boxes = _propose(first, pixels)
        for network, side, sure in ((second, 24, _SURE[1]), (third, 48, _SURE[2])):
            boxes = _refine(network, pixels, boxes, side, sure)
        boxes = boxes[_distinct(boxes, 0.5, of_smaller=True)]
    return boxes[:, :4].clone()


def mask_faces(photo: Tensor) -> Tensor:
    """Make a soft mask of all faces, (1, 1, H, W): exactly 1 from forehead to chin and ear to ear.

    Args:
        photo: sRGB in [0, 1], (1, 3, H, W).

    Raises:
        WeightsError: See `find_faces`.
    """
    height, width = photo.shape[2:]
    mask = photo.new_zeros(1, 1, height, width)
    for left, top, right, bottom in find_faces(photo).tolist():
        distance = _from_middle(left, top, right, bottom, height, width).to(photo)
        core = (distance <= 1).to(photo)[None, None]
        fading = (2.6 - 1.6 * distance).clamp(0, 1)[None, None]
        mask = torch.maximum(mask, torch.maximum(core, fading))
    if mask.any():
        core = (mask == 1).to(mask)
        mask = torch.maximum(core, torch.minimum(follow_edges(mask, photo), (mask > 0).to(mask)))
    return mask


def _from_middle(
    left: float, top: float, right: float, bottom: float, height: int, width: int
) -> Tensor:
    """The distance of each place (H, W) from a face's center; 1 on the ellipse around the face."""
    # The box ends at the brow; the ellipse around it includes the forehead.
    middle = (left + right) / 2, top + 0.46 * (bottom - top)
    x = (torch.arange(width) + 0.5 - middle[0]) / (0.60 * (right - left))
    y = (torch.arange(height) + 0.5 - middle[1]) / (0.64 * (bottom - top))
    return (x[None, :] ** 2 + y[:, None] ** 2).sqrt()


def _propose(network: _Network, pixels: Tensor) -> Tensor:
    """Propose faces of any size with the first network, (N, 5) with their probabilities."""
    height, width = pixels.shape[2:]
    scale = min(_FIRST / SMALLEST, math.sqrt(_LARGEST_LEVEL / (height * width)))
    found = [pixels.new_zeros(0, 5)]
    while min(height, width) * scale >= _FIRST:
        small = resize(pixels, math.ceil(height * scale), math.ceil(width * scale))
        change, chance = network(small)
        rows, columns = torch.nonzero(chance[0] > _SURE[0], as_tuple=True)
        corner = torch.stack([columns, rows], 1) * 2.0
        boxes = torch.cat([corner, corner + _FIRST], 1) + _FIRST * change[0, :, rows, columns].T
        level = torch.cat([boxes / scale, chance[0, rows, columns, None]], 1)
        found.append(level[_distinct(level, 0.5)])
        scale *= _STEP
    boxes = torch.cat(found)
    return _square(boxes[_distinct(boxes, 0.7)])


def _refine(network: _Network, pixels: Tensor, boxes: Tensor, side: int, sure: float) -> Tensor:
    """Filter boxes by the next network, and correct their positions."""
    kept = [boxes[:0]]
    for part in torch.split(boxes, _PATCHES):
        change, *_, chance = network(_patches(pixels, part, side))
        size = part[:, 2:4] - part[:, :2]
        moved = part[:, :4] + change * size.repeat(1, 2)
        kept.append(torch.cat([moved, chance[:, None]], 1)[chance > sure])
    boxes = torch.cat(kept)
    boxes = boxes[_distinct(boxes, 0.7)]
    return boxes if side == 48 else _square(boxes)


def _patches(pixels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Crop each box to `side` pixels, (N, 3, side, side); gray outside the photo."""
    height, width = pixels.shape[2:]
    steps = (torch.arange(side, device=pixels.device) + 0.5) / side
    x = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * steps
    y = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * steps
    x, y = x / width * 2 - 1, y / height * 2 - 1
    across = x[:, None, :].expand(-1, side, -1)
    down = y[:, :, None].expand(-1, -1, side)
    places = torch.stack([across, down], -1).flatten(0, 1)[None]  # one tall picture of all
    seen = functional.grid_sample(pixels, places, align_corners=False)
    return seen[0].reshape(3, len(boxes), side, side).transpose(0, 1)


def _square(boxes: Tensor) -> Tensor:
    """Make boxes square, with the same centers."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    half = (boxes[:, 2:4] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([middle - half, middle + half, boxes[:, 4:]], 1)


def _distinct(boxes: Tensor, overlap: float, *, of_smaller: bool = False) -> Tensor:
    """Select the boxes (N, 5) that no more likely one overlaps; returns indices, most likely first.

    Args:
        boxes: With their probabilities.
        overlap: Shared area above which two are the same, relative to their union.
        of_smaller: Relative to the smaller one instead.
    """
    waiting = boxes[:, 4].argsort(descending=True)
    area = (boxes[:, 2:4] - boxes[:, :2]).clamp(min=0).prod(1)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        high = torch.minimum(boxes[best, 2:4], boxes[waiting, 2:4])
        shared = (high - low).clamp(min=0).prod(1)
        both = area[best] + area[waiting] - shared
        whole = torch.minimum(area[best], area[waiting]) if of_smaller else both
        waiting = waiting[shared <= overlap * whole]
    return torch.stack(kept) if kept else waiting


@functools.cache
def _load(device: torch.device) -> tuple[_Network, _Network, _Network]:
    """Load the three networks, frozen, once per device."""
    with loading():
        first = _Network(((10, 3, 2), (16, 3, 0), (32, 3, 0)), 0, (4, 2))
        second = _Network(((28, 3, 3), (48, 3, 3), (64, 2, 0)), 128, (4, 2), 9)
        third = _Network(((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), 256, (4, 10, 2), 9)
        return (
            _fill(first, "pnet").to(device),
            _fill(second, "rnet").to(device),
            _fill(third, "onet").to(device),
        )


def _fill(network: _Network, name: str) -> _Network:
    """Load the weights of one file; its arrays are in the order of the layers."""
    spec = importlib.util.find_spec("mtcnn")  # not imported: its code needs TensorFlow
    remedy = "pip install 'clipmamba[regions]'"
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package mtcnn is missing: {remedy}")
    file = Path(spec.submodule_search_locations[0]) / "assets/weights" / f"{name}.lz4"
    if not file.is_file():
        raise WeightsError(f"the package mtcnn has no {file.name}: {remedy}")
    import joblib

    arrays = joblib.load(file)
    state = network.state_dict()
    if len(arrays) != len(state):
        raise WeightsError(f"{file} has {len(arrays)} arrays, not {len(state)}: {remedy}")
    for key, array in zip(state, arrays, strict=True):
        value = torch.from_numpy(array)  # TensorFlow has outputs last
        value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
        value = value.T if value.ndim == 2 else value
        if value.numel() != state[key].numel():
            raise WeightsError(f"{file} does not fit the network at {key}: {remedy}")
        state[key] = value.reshape(state[key].shape).contiguous()
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
