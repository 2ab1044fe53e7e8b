"""What pictures of a style look like to an ImageNet network, and what tells the styles apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from clipmamba.errors import InputError
from clipmamba.evaluate.judge import StageFeatures
from clipmamba.losses.statistics import channel_statistics
from clipmamba.train.mini.model import keep_depthwise_in_float32
from clipmamba.train.pictures import FEW
from clipmamba.train.stylizer.pairs import StyleEntry, as_images, load_square

SIDE = 224  # style pictures are seen at this side
STAGES = 5  # of the network: down to a sixteenth of the size, where strokes and forms are
CONTENT = slice(2, 4)  # of its maps: those at a quarter and an eighth, where things lie
STRENGTH = 1e-3  # inverse weight of the classifier's ridge penalty


class StageStatistics(nn.Module):
    """Means and deviations of the channels of an ImageNet network's first stages; frozen.

    EfficientNet-Lite2, mini's ancestor. The judge's network, Lite0, must never be trained with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = StageFeatures("lite2").to(memory_format=torch.channels_last)
        keep_depthwise_in_float32(self.network)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps (B, 3, H, W) in [0, 1] to the maps of `CONTENT` and to statistics (B, S)."""
        maps = self.network(images.contiguous(memory_format=torch.channels_last), STAGES)
        moments = [part for each in maps for part in channel_statistics(each.float())]
        return maps[CONTENT], torch.cat(moments, dim=1)


@dataclass(frozen=True)
class StyleTargets:
    """What each style of a list asks of a picture.

    Attributes:
        statistics: For each style (2, S): of its own picture, and the mean of its family, for its
            words, or its own again if the family is small; empty for a style without a picture.
        spread: Deviation of each statistic among all pictures, (S,).
        looks: For each style the class that a picture in it should be recognised as, or -1.
        classifier: Maps statistics, in units of their spread, to the classes' logits; none without
            a class.
    """

    statistics: list[Tensor]
    spread: Tensor
    looks: list[int]
    classifier: nn.Linear | None


@torch.no_grad()
def style_targets(
    styles: Sequence[StyleEntry], photos: NDArray[np.uint8], network: StageStatistics
) -> StyleTargets:
    """Looks at the pictures of styles, and at photos, which are what no style should look like.

    Args:
        styles: Those of a store; the ones without a picture ask for nothing.
        photos: Bytes (N, H, W, 3).
        network: What looks at the pictures.

    Raises:
        InputError: No style has a picture.
    """
    shown = [number for number, style in enumerate(styles) if style.picture]
    if not shown:
        raise InputError(
            "the losses on style statistics need style pictures: give --style-share or "
            "--teacher-share a value above 0"
        )
    own = _statistics([styles[number].picture for number in shown], network)
    families = np.array([styles[number].family for number in shown])
    common = {name for name, count in Counter(families.tolist()).items() if count >= FEW}
    common.discard("")
    means = {name: own[torch.from_numpy(families == name)].mean(0) for name in common}
    spread = own.std(0)
    spread = spread + 0.1 * spread.mean()
    statistics, looks = [own[:0]] * len(styles), [-1] * len(styles)
    classes = sorted(common)
    for number, row, family in zip(shown, own, families.tolist(), strict=True):
        statistics[number] = torch.stack([row, means.get(family, row)])
        if family in common:
            looks[number] = classes.index(family)
    if not classes:
        return StyleTargets(statistics, spread, looks, None)
    known = [number for number, family in enumerate(families.tolist()) if family in common]
    rows = torch.cat([own[known], _statistics(photos, network)]) / spread
    labels = [looks[shown[number]] for number in known] + [len(classes)] * len(photos)
    return StyleTargets(statistics, spread, looks, _fit(rows, labels))


def _statistics(pictures: Sequence[str] | NDArray[np.uint8], network: StageStatistics) -> Tensor:
    """Of files or of bytes (N, H, W, 3), at `SIDE`: (N, S)."""
    device = next(network.parameters()).device
    rows = []
    for start in tqdm(range(0, len(pictures), 32), desc="style targets", mininterval=10):
        some = pictures[start : start + 32]
        if isinstance(some, np.ndarray):
            images = as_images(list(some))
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        else:
            images = as_images([load_square(file, SIDE) for file in some])
        rows.append(network(images.to(device))[1].cpu())
    return torch.cat(rows)


def _fit(rows: Tensor, labels: Sequence[int]) -> nn.Linear:
    """Logistic regression from rows (N, S); all classes count equally."""
    from sklearn.linear_model import LogisticRegression

    centre = rows.mean(0)
    regression = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500)
    regression.fit((rows - centre).numpy(), labels)
    weight = torch.from_numpy(regression.coef_).float()
    bias = torch.from_numpy(regression.intercept_).float() - weight @ centre
    if len(weight) == 1:  # of two classes it gives the second one's odds alone
        weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
    classifier = nn.Linear(rows.shape[1], len(weight))
    classifier.weight.data, classifier.bias.data = weight, bias
    return classifier.requires_grad_(False)
