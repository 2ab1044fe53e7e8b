"""What pictures of a style look like to an ImageNet network: targets of the statistics loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from clipmamba.evaluate.judge import StageFeatures
from clipmamba.losses.statistics import channel_statistics
from clipmamba.train.mini import keep_depthwise_in_float32
from clipmamba.train.style_pairs import StyleEntry, as_images, load_square

SIDE = 224  # style pictures are seen at this side
STAGES = 5  # of the network: down to a sixteenth of the size, where strokes and forms are
CONTENT = slice(2, 4)  # of its maps: those at a quarter and an eighth, where things lie


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


@torch.no_grad()
def style_targets(
    styles: Sequence[StyleEntry], network: StageStatistics
) -> tuple[list[Tensor], Tensor]:
    """Statistics that words and pictures of each style ask for.

    Args:
        styles: Those of a store; the ones without a picture get empty targets.
        network: What looks at the pictures.

    Returns:
        For each style (2, S): of its own picture, and the mean of its family, for its words; and
        the deviation of each statistic among all pictures, (S,).
    """
    device = next(network.parameters()).device
    shown = [number for number, style in enumerate(styles) if style.picture]
    rows = []
    for start in tqdm(range(0, len(shown), 32), desc="style targets", mininterval=10):
        some = [load_square(styles[number].picture, SIDE) for number in shown[start : start + 32]]
        rows.append(network(as_images(some).to(device))[1].cpu())
    own = torch.cat(rows)
    families = np.array([styles[number].family for number in shown])
    means = {name: own[torch.from_numpy(families == name)].mean(0) for name in set(families)}
    found = dict(zip(shown, own, strict=True))
    targets = [
        torch.stack([found[number], means[style.family]]) if style.picture else own[:0]
        for number, style in enumerate(styles)
    ]
    spread = own.std(0)
    return targets, spread + 0.1 * spread.mean()
