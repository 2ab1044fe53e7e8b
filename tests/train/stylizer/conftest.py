"""A small data folder, prepared, and a small stylizer."""

from __future__ import annotations

import csv
import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from clipmamba.clip import Clip
from clipmamba.losses.vgg import VggFeatures
from clipmamba.models import Stylizer
from clipmamba.train.pictures import Picture, draw_by_look, read_pictures, set_aside
from clipmamba.train.stylizer import commands
from clipmamba.train.stylizer.pairs import SIZE, StyleEntry, write_store
from clipmamba.train.stylizer.prepared import Prepared, prepare
from clipmamba.train.stylizer.task import LossWeights, StylizerTask

SMALL = {
    "style_dim": 16, "widths": (8, 8, 8), "depth": 1, "quarter_depth": 1, "state": 4, "expand": 1,
    "code_dim": 16,
}  # fmt: skip


def names(count: int, aside: bool, start: int) -> list[str]:
    """File names of pictures that are trained on, or set aside for validation."""
    found: list[str] = []
    while len(found) < count:
        picture = Picture(Path(f"{start}.png"), "", "", (), "")
        if not picture.held_out and set_aside(picture) == aside:
            found.append(picture.path.name)
        start += 1
    return found


def make_store(folder: Path, seed: int, styles: list[StyleEntry], count: int = 12) -> None:
    """Pairs of the first two styles: red counts columns, green rows; a result is the negative."""
    rng = np.random.default_rng(seed)
    place = np.arange(SIZE, dtype=np.uint8)
    pairs = []
    for row in range(count):
        photo = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        photo[..., 0], photo[..., 1] = place[None, :], place[:, None]
        pairs.append((photo, 255 - photo, row % 2))
    write_store(folder, styles, iter(pairs), count)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos and ten style pictures that are trained on, two of each set aside."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, size, start in (("content", (96, 72), 0), ("style", (64, 80), 10_000)):
        files = [*names(10, False, start), *names(2, True, start)]
        for file in files:
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / file)
        header = "file,what" if kind == "content" else "file,style_words"
        rows = [header, *(f"{file},thing {n}" for n, file in enumerate(files))]
        (folder / f"{kind}.csv").write_text("\n".join(rows) + "\n")
    (folder / "pairs.csv").write_text("file,caption\n")
    return folder


@pytest.fixture(scope="session")
def prepared_folder(
    data: Path, tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `prepare` makes of the data folder, and exact pairs that are negatives."""
    folder = tmp_path_factory.mktemp("prepared")
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    styles = [StyleEntry(name, (name,), "", name) for name in ("mosaic", "woodcut")]
    make_store(folder / "painters", 1, styles)
    pictures = read_pictures(data)
    for aside, output in ((False, folder), (True, folder / "validation")):
        some = [picture for picture in pictures if set_aside(picture) == aside]
        drawn = draw_by_look([picture for picture in some if picture.kind == "style"], 8, 0)
        prepare(data, drawn, [p for p in some if p.kind == "photo"], clip, output)
    return folder


@pytest.fixture(scope="session")
def sharded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of the data folder in webdataset shards of five."""
    folder = tmp_path_factory.mktemp("shards")
    for kind, column in (("content", "what"), ("style", "style_words")):
        with (data / f"{kind}.csv").open() as file:
            rows = list(csv.DictReader(file))
        for start in range(0, len(rows), 5):
            with tarfile.open(folder / f"{kind}-{start:04d}.tar", "w") as archive:
                for row in rows[start : start + 5]:
                    note = json.dumps({column: row[column]}).encode()
                    picture = (data / row["file"]).read_bytes()
                    for name, content in (
                        (row["file"], picture),
                        (row["file"][:-3] + "json", note),
                    ):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        archive.addfile(member, BytesIO(content))
    return folder


@pytest.fixture(scope="session")
def prepared_shards(
    sharded: Path, tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the command `prepare` makes of the shards."""
    folder = tmp_path_factory.mktemp("prepared-shards")
    done = CliRunner().invoke(
        commands.main,
        ["prepare", "--data", str(sharded), "--clip", str(tiny_clip_folder),
         "--styles", "8", "--painters", "2", "--output", str(folder)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def prepared(prepared_folder: Path) -> Prepared:
    return Prepared.load(prepared_folder)


@pytest.fixture
def stylizer() -> Stylizer:
    torch.manual_seed(0)
    return Stylizer(**SMALL)


@pytest.fixture
def networks(vgg_weights: Path, tiny_clip_folder: Path) -> dict[str, nn.Module]:
    """What looks at pictures."""
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    return {"vgg": VggFeatures(vgg_weights), "clip": clip}


@pytest.fixture
def task(stylizer: Stylizer, networks: dict[str, nn.Module]) -> StylizerTask:
    """The task with all losses."""
    torch.manual_seed(0)
    return StylizerTask(stylizer, networks, LossWeights(adversarial=1.0))
