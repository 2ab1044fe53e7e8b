from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clipmamba.clip import Clip
from clipmamba.models import Stylizer
from clipmamba.train.stylizer.pairs import SIZE, PairStore, StyleEntry, write_store


@pytest.fixture(autouse=True)
def fresh_accelerate_state() -> Iterator[None]:
    """accelerate keeps its state in the process; each test starts its own."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors, and equal sums however many threads the machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_store(folder: Path, seed: int, styles: list[StyleEntry], count: int = 12) -> PairStore:
    """Pairs of the first two styles: red counts columns, green rows; a result is the negative."""
    rng = np.random.default_rng(seed)
    place = np.arange(SIZE, dtype=np.uint8)
    pairs = []
    for row in range(count):
        photo = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        photo[..., 0], photo[..., 1] = place[None, :], place[:, None]
        pairs.append((photo, 255 - photo, row % 2))
    write_store(folder, styles, iter(pairs), count)
    return PairStore(folder)


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher store, whose styles have pictures, and a painter store without."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pairs")
    pictures = []
    for name, colour in (("red", "darkred"), ("blue", "navy")):
        Image.new("RGB", (70, 50), colour).save(folder / f"{name}.png")
        file = str(folder / f"{name}.png")
        pictures.append(StyleEntry(name, (f"a {name} painting", name), file, name))
    make_store(folder / "teacher", 0, pictures)
    painters = [StyleEntry(name, (name,), "", name) for name in ("mosaic", "woodcut", "unused")]
    make_store(folder / "painters", 1, painters)
    return folder


@pytest.fixture
def stores(pairs_folder: Path) -> list[PairStore]:
    return [PairStore(pairs_folder / name) for name in ("teacher", "painters")]


@pytest.fixture
def clip(tiny_clip_folder: Path) -> Clip:
    return Clip.from_pretrained(str(tiny_clip_folder))


@pytest.fixture
def stylizer() -> Stylizer:
    torch.manual_seed(0)
    return Stylizer(
        style_dim=16, widths=(8, 8, 8), depth=1, quarter_depth=1, head_width=8, state=4, expand=1,
        code_dim=16,
    )  # fmt: skip
