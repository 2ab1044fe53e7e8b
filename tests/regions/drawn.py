"""Photos with drawn truth: where the sky is, and where frontal faces are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SIDE = 256


@dataclass(frozen=True)
class DrawnPhoto:
    """A photo with what somebody drew on it.

    Attributes:
        name: Its name in `truth.json`.
        image: At most 256 pixels wide and high.
        sky: Booleans (H, W).
        faces: Left, top, right, bottom of frontal faces, in pixels.
    """

    name: str
    image: Image.Image
    sky: np.ndarray
    faces: list[tuple[float, float, float, float]]

    @property
    def tensor(self) -> Tensor:
        pixels = torch.from_numpy(np.asarray(self.image, np.float32) / 255)
        return pixels.permute(2, 0, 1)[None]


def truth() -> dict[str, dict]:
    return json.loads((HERE / "truth.json").read_text())


def drawn(name: str) -> DrawnPhoto:
    """One of the photos; the test is skipped where scikit-image has it and is not installed."""
    row = truth()[name]
    file = HERE / "photos" / row["photo"]
    if row["photo"].startswith("assets/"):
        file = ROOT / row["photo"]
    elif row["photo"].startswith("skimage/"):
        skimage = pytest.importorskip("skimage")
        file = Path(skimage.__file__).parent / "data" / row["photo"].removeprefix("skimage/")
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = image.size
    sky = Image.new("L", image.size)
    for polygon in row["sky"]:
        ImageDraw.Draw(sky).polygon([(x * width / 100, y * height / 100) for x, y in polygon], 255)
    faces = [
        (x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100)
        for x, y, w, h in row["faces"]
    ]
    return DrawnPhoto(name, image, np.asarray(sky) > 127, faces)
