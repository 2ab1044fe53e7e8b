"""The preview of what a style picture teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from clipmamba.losses.vgg import VggFeatures
from clipmamba.train.stylizer import commands
from clipmamba.train.stylizer.preview import preview
from clipmamba.train.stylizer.task import LossWeights


@pytest.fixture
def photo() -> Image.Image:
    """A dark square on gray."""
    pixels = np.full((64, 64, 3), 120, np.uint8)
    pixels[16:48, 16:48] = 40
    return Image.fromarray(pixels)


@pytest.fixture
def picture() -> Image.Image:
    """Yellow and blue stripes."""
    pixels = np.full((64, 64, 3), (230, 200, 40), np.uint8)
    pixels[:, ::8] = pixels[:, 1::8] = (20, 30, 160)
    return Image.fromarray(pixels)


def test_the_photo_gets_the_colors_of_the_style(photo, picture, vgg_weights: Path):
    vgg, weights = VggFeatures(vgg_weights), LossWeights(content=0, calm=0)
    _, before = preview(photo, picture, vgg, weights, steps=1)
    made, after = preview(photo, picture, vgg, weights, steps=30)
    assert made.size == photo.size
    assert after["texture"] < 0.6 * before["texture"]

    def distance(image: Image.Image) -> float:
        means = [np.asarray(each, float).mean((0, 1)) for each in (image, picture)]
        return float(np.abs(means[0] - means[1]).mean())

    assert distance(made) < 0.6 * distance(photo)


def test_content_keeps_the_photo(photo, picture, vgg_weights: Path):
    vgg = VggFeatures(vgg_weights)
    free, _ = preview(photo, picture, vgg, LossWeights(content=0, color=0), steps=20)
    kept, _ = preview(photo, picture, vgg, LossWeights(content=20, color=0), steps=20)

    def likeness(image: Image.Image) -> float:
        pair = [np.asarray(each.convert("L"), float).ravel() for each in (image, photo)]
        return float(np.corrcoef(*pair)[0, 1])

    assert likeness(kept) > likeness(free)


def test_the_command_shows_each_picture_beside_its_result(
    photo, picture, vgg_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(commands, "STYLE_SIDE", 64)
    photo.save(tmp_path / "photo.png")
    names = [tmp_path / "a.png", tmp_path / "b.png"]
    picture.save(names[0])
    picture.rotate(90).save(names[1])
    sheet = tmp_path / "sheet.png"
    caplog.set_level("INFO")
    done = CliRunner().invoke(
        commands.main,
        ["preview", "--photo", str(tmp_path / "photo.png"), "--vgg", str(vgg_weights), "--steps",
         "2", "--output", str(sheet), *(f"--picture={name}" for name in names)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [str(name) in caplog.text for name in names] == [True, True]
    with Image.open(sheet) as image:
        assert image.width >= 2 * 64
        assert image.height >= 2 * 64


def test_a_picture_that_cannot_be_read_is_named(photo, vgg_weights: Path, tmp_path: Path):
    photo.save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("not a picture")
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(
        commands.main,
        ["preview", "--photo", str(tmp_path / "photo.png"), "--vgg", str(vgg_weights),
         "--picture", str(tmp_path / "text.png"), "--output", str(sheet)],
    )  # fmt: skip
    assert done.exit_code
    assert "text.png" in done.output
    assert not sheet.exists()
