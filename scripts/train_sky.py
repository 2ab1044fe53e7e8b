"""Train the sky network from a few skylines drawn by hand and many photos.

A head on a frozen ImageNet network learns the sky from some 200 photos with skylines drawn by hand
(`sky_labels.json`: points from left to right, in percent; none without sky). It then labels all
photos, and the small network learns from both, and from drawn skylines of old prints. `--data` is a
folder of photos with a `content.csv` (columns file, source) and the files named in the labels; no
photo of tests/regions is among them. Needs clipmamba[train]; takes about 15 minutes on one core.

    python scripts/train_sky.py --data DATA --output src/clipmamba/weights
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from clipmamba.evaluate.judge import StageFeatures
from clipmamba.regions.sky import SIDE, SkyNetwork
from clipmamba.weights import write_tensors

LABELS = Path(__file__).with_name("sky_labels.json")
LEFT_OUT = ("budgie", "debian-photos", "skimage", "elementary", "pop-os")  # tests may have them
FEATURE_SIDE, GRID, OUT = 256, 32, 32
OLD = "style/"  # labels of old prints: the small network's, not the teacher's


def read(root: Path, files: list[str], side: int) -> Tensor:
    """Photos as uint8 (N, 3, side, side), their aspect ratio not kept."""
    pictures = []
    for file in files:
        with Image.open(root / file) as opened:
            picture = opened.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        pictures.append(torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1))
    return torch.stack(pictures)


@torch.inference_mode()
def see(network: StageFeatures, pictures: Tensor) -> Tensor:
    """What the ImageNet network sees of uint8 photos, (N, F, GRID, GRID) in half precision."""
    maps = network(pictures.float().div(255).contiguous(memory_format=torch.channels_last))
    sized = [
        functional.interpolate(maps[stage], (GRID, GRID), mode="bilinear", align_corners=False)
        for stage in (3, 5, 7)
    ]
    return torch.cat(sized, 1).half()


def draw(skyline: list[list[float]], side: int) -> Tensor:
    """The sky above a line, (side, side) in [0, 1]."""
    large = 256
    mask = Image.new("L", (large, large))
    if skyline:
        line = [(x * large / 100, y * large / 100) for x, y in skyline]
        ImageDraw.Draw(mask).polygon([(line[0][0], 0), *line, (line[-1][0], 0)], fill=255)
    small = mask.resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)


class Teacher:
    """A small head on the ImageNet network's features and the height in the picture."""

    def __init__(self, features: Tensor, skies: Tensor, rounds: int = 6) -> None:
        seen = features.float()
        self.middle, self.spread = seen.mean((0, 2, 3)), seen.std((0, 2, 3))
        self.head = nn.Sequential(
            nn.Linear(features.shape[1] + 1, 48), nn.GELU(), nn.Dropout(0.2), nn.Linear(48, 1)
        )
        x, sky = self._rows(features).flatten(0, 2), skies.flatten()
        x, sky = x[(sky < 0.1) | (sky > 0.9)], sky[(sky < 0.1) | (sky > 0.9)].round()
        optimizer = torch.optim.AdamW(self.head.parameters(), 2e-3, weight_decay=0.3)
        for _ in range(rounds):
            for part in torch.randperm(len(x)).split(2048):
                logits = self.head(x[part])[:, 0]
                loss = functional.binary_cross_entropy_with_logits(logits, sky[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.head.eval()

    def _rows(self, features: Tensor) -> Tensor:
        x = (features.float().permute(0, 2, 3, 1) - self.middle) / self.spread
        height = torch.linspace(-1, 1, GRID)[None, :, None, None].expand(len(x), GRID, GRID, 1)
        return torch.cat([x, height], -1)

    @torch.inference_mode()
    def __call__(self, features: Tensor) -> Tensor:
        """Sky, (N, 1, GRID, GRID) in [0, 1]."""
        return self.head(self._rows(features)).sigmoid().permute(0, 3, 1, 2)


def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cut, mirror, recolor; y is sky and weight, (N, 2, OUT, OUT)."""
    n = len(x)
    place = torch.zeros(n, 2, 3)
    for axis in (0, 1):
        scale = 0.65 + 0.35 * torch.rand(n)
        place[:, axis, axis] = scale
        place[:, axis, 2] = (1 - scale) * (2 * torch.rand(n) - 1)
    place[:, 0, 0] *= torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    x, y = (
        functional.grid_sample(
            values, functional.affine_grid(place, list(values.shape), align_corners=False),
            padding_mode="border", align_corners=False,
        )
        for values in (x, y)
    )  # fmt: skip

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1)

    gray = x.mean(1, keepdim=True)
    color = torch.where(torch.rand(n, 1, 1, 1) < 0.45, 0.0, draw(0.5, 1.4))
    x = (gray + (x - gray) * color) * (1 + 0.12 * torch.randn(n, 3, 1, 1) * (color > 0))
    x = (x.clamp(0, 1) ** draw(0.5, 1.6) - 0.5) * draw(0.6, 1.2) + 0.5 + draw(-0.12, 0.12)
    return (x + 0.02 * draw(0, 1) * torch.randn(x.shape)).clamp(0, 1), y


Samples = tuple[Tensor, Tensor]


def train(groups: list[tuple[Samples, int]], steps: int) -> SkyNetwork:
    """Train on groups of photos with sky and weight, and how many of each a step sees."""
    network = SkyNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    for step in range(steps):
        warm = min(1, 0.02 + step / 60)
        rate = 4e-3 * warm * (1 + math.cos(math.pi * step / steps)) / 2 + 1e-5
        optimizer.param_groups[0]["lr"] = rate
        chosen = [(x, y, torch.randint(len(x), (count,))) for (x, y), count in groups]
        x = torch.cat([x[i] for x, _, i in chosen]).float() / 255
        x, y = augment(x, torch.cat([y[i] for _, y, i in chosen]))
        loss = functional.binary_cross_entropy_with_logits(network(x), y[:, :1], weight=y[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"{step + 1} steps, loss {loss.item():.4f}", flush=True)
    return network.eval()


def drawn(root: Path, labels: dict[str, list[list[float]]]) -> Samples:
    """Photos with their drawn skies; near the line, where it may be wrong, the weight is less."""
    sky = torch.stack([draw(line, OUT) for line in labels.values()])[:, None]
    edge = functional.max_pool2d(sky, 3, 1, 1) + functional.max_pool2d(-sky, 3, 1, 1) > 0.1
    return read(root, list(labels), SIDE), torch.cat([sky, 2 - 1.4 * edge.float()], 1)


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--steps", type=int, default=2400)
    options = parser.parse_args()
    torch.manual_seed(0)
    root: Path = options.data
    with (root / "content.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["source"].startswith(LEFT_OUT)]
    files = [row["file"] for row in rows]
    labels: dict[str, list[list[float]]] = json.loads(LABELS.read_text())
    photos = {file: line for file, line in labels.items() if not file.startswith(OLD)}
    prints = {file: line for file, line in labels.items() if file.startswith(OLD)}
    seer = StageFeatures("lite0")

    def seen(names: list[str]) -> Iterator[Tensor]:
        for k in range(0, len(names), 16):
            yield see(seer, read(root, names[k : k + 16], FEATURE_SIDE))

    skies = torch.stack([draw(line, GRID) for line in photos.values()])
    teacher = Teacher(torch.cat([*seen(list(photos))]), skies)
    sky = torch.cat([teacher(features) for features in seen(files)])
    pool = (read(root, files, SIDE), torch.cat([sky, 2 * (sky - 0.5).abs()], 1))
    groups = [(pool, 24), (drawn(root, photos), 9), (drawn(root, prints), 7)]
    network = train(groups, options.steps)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    write_tensors(options.output / "sky" / "sky.safetensors", state)


if __name__ == "__main__":
    main()
