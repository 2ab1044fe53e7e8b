"""Exact pairs to learn from: photos and what the procedural painters make of them, on disk."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipmamba.errors import InputError
from clipmamba.files import flush_folder, write_json
from clipmamba.train.painters import PAINTERS
from clipmamba.train.pictures import Picture, open_picture

SIZE = 256  # side of every stored photo and result, in pixels
GRID = 16  # crops start at multiples of it
_RENDER = 384  # whole photos are painted at this side
_CROPS = 2  # pairs cut from one of them

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class StyleEntry:
    """One style that pairs refer to by its number.

    Attributes:
        name: For logs and sheets.
        texts: Phrases that mean it; may be empty.
        picture: File of a picture in it; "" where there is none.
        family: Name that styles of one look share; "" for a look of its own.
    """

    name: str
    texts: tuple[str, ...]
    picture: str
    family: str


class PairStore:
    """Folder of aligned (photo, result, style number), all `SIZE` squares, as memory maps.

    Raises:
        InputError: The folder holds no complete store.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.styles = read_styles(folder)
        self.photos = np.load(folder / "photos.npy", mmap_mode="r")
        self.results = np.load(folder / "results.npy", mmap_mode="r")
        self.numbers = np.load(folder / "numbers.npy")

    def __len__(self) -> int:
        return len(self.numbers)

    def __reduce__(self) -> tuple[type[PairStore], tuple[Path]]:
        """Pickle the folder alone: a worker process maps the files, too, and copies nothing."""
        return PairStore, (self.folder,)


def read_styles(folder: Path) -> list[StyleEntry]:
    """The styles of a store.

    Raises:
        InputError: There are none; they are written last, so the store is not complete.
    """
    file = folder / "styles.json"
    if not file.is_file():
        raise InputError(f"{folder} holds no pairs; make them with the `prepare` command first")
    entries = json.loads(file.read_text(encoding="utf-8"))
    return [StyleEntry(**{**entry, "texts": tuple(entry["texts"])}) for entry in entries]


def write_styles(folder: Path, styles: Sequence[StyleEntry]) -> None:
    """What `read_styles` reads."""
    write_json(folder / "styles.json", [dataclasses.asdict(style) for style in styles], None)


def write_store(
    folder: Path,
    styles: Sequence[StyleEntry],
    pairs: Iterator[tuple[Pixels, Pixels, int]],
    count: int,
    split: str = "",
) -> None:
    """Write `count` pairs (photo, result, style number) as a `PairStore`.

    Args:
        folder: Of the store.
        styles: What the numbers mean.
        pairs: The pairs.
        count: How many they are.
        split: Fingerprint of the photos that they are made of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "styles.json").unlink(missing_ok=True)  # no complete store until it is back
    shape = (count, SIZE, SIZE, 3)
    photos = np.lib.format.open_memmap(folder / "photos.npy", "w+", np.uint8, shape)
    results = np.lib.format.open_memmap(folder / "results.npy", "w+", np.uint8, shape)
    numbers = np.empty(count, np.int64)
    rows = tqdm(range(count), desc=folder.name, mininterval=10)
    for row, (photo, result, number) in zip(rows, pairs, strict=True):
        photos[row], results[row], numbers[row] = photo, result, number
    photos.flush()
    results.flush()
    np.save(folder / "numbers.npy", numbers)
    (folder / "split.txt").write_text(split, encoding="utf-8")
    flush_folder(folder)
    write_styles(folder, styles)


def stored_split(folder: Path) -> str | None:
    """Fingerprint of the photos that a complete store is made of; None where there is none."""
    file = folder / "split.txt"
    complete = file.is_file() and (folder / "styles.json").is_file()
    return file.read_text(encoding="utf-8") if complete else None


def load_square(path: Path, side: int, rng: random.Random | None = None) -> Pixels:
    """A square of a picture at `side` px: the middle, or a random 70 to 100 % of it."""
    image = open_picture(path)
    short = min(image.size)
    crop = short if rng is None else round(short * rng.uniform(0.7, 1.0))
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    if rng is not None:
        left, top = rng.randint(0, image.width - crop), rng.randint(0, image.height - crop)
    box = (left, top, left + crop, top + crop)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def painter_styles() -> list[StyleEntry]:
    """The painters as styles."""
    return [StyleEntry(name, painter.prompts, "", name) for name, painter in PAINTERS.items()]


def painter_pairs(
    photos: Sequence[Picture], count: int, seed: int, workers: int = 2
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Pairs of the procedural painters in turn."""
    jobs = [
        (photos[(row * 7919 + seed) % len(photos)].path, row, seed)
        for row in range(-(-count // _CROPS))
    ]
    with ProcessPoolExecutor(workers) as pool:
        pairs = chain.from_iterable(pool.map(_paint, jobs, chunksize=8))
        yield from islice(pairs, count)


def _paint(job: tuple[Path, int, int]) -> list[tuple[Pixels, Pixels, int]]:
    path, row, seed = job
    place = random.Random(f"{seed}-{row}")
    photo = load_square(path, _RENDER, place)
    names = list(PAINTERS)
    number = row % len(names)
    # One hand a style: with another palette and grain each time, a pixel loss learns their mean.
    hand = np.random.default_rng((seed, number))
    painted = PAINTERS[names[number]](photo.astype(np.float32) / 255, hand)
    result = np.rint(painted * 255).astype(np.uint8)
    return list(_crops(photo, result, number, place))


def _crops(
    photo: Pixels, result: Pixels, number: int, rng: random.Random
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Cuts squares of `SIZE` at the same places of a photo and its result."""
    free = (_RENDER - SIZE) // GRID
    for _ in range(_CROPS):
        y, x = rng.randint(0, free) * GRID, rng.randint(0, free) * GRID
        box = np.s_[y : y + SIZE, x : x + SIZE]
        yield photo[box], result[box], number


def as_images(pixels: Sequence[Pixels]) -> Tensor:
    """Pictures (H, W, 3) of bytes as (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
