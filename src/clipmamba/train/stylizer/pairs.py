"""Exact pairs to train on: photos and their renderings by the procedural painters, on disk."""

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
GRID = 16  # pixels; crops start at multiples of it
_RENDER = 384  # side at which whole photos are painted, in pixels
_CROPS = 2  # pairs cut from each

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class StyleEntry:
    """A style, to which pairs refer by number.

    Attributes:
        name: Name for logs and sheets.
        texts: Phrases that describe the style; may be empty.
        picture: File of a picture in the style; "" if there is none.
        family: Name shared by styles of one look; "" for a look of its own.
    """

    name: str
    texts: tuple[str, ...]
    picture: str
    family: str


class PairStore:
    """Folder of aligned (photo, result, style number), squares of `SIZE` pixels, memory-mapped.

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
        """Pickle the folder's name only: a worker process maps the files itself."""
        return PairStore, (self.folder,)


def read_styles(folder: Path) -> list[StyleEntry]:
    """Return the styles of a store.

    Raises:
        InputError: There are none. They are written last, so the store is incomplete.
    """
    file = folder / "styles.json"
    if not file.is_file():
        raise InputError(f"{folder} holds no pairs; make them with the `prepare` command first")
    entries = json.loads(file.read_text(encoding="utf-8"))
    return [StyleEntry(**{**entry, "texts": tuple(entry["texts"])}) for entry in entries]


def write_styles(folder: Path, styles: Sequence[StyleEntry]) -> None:
    """Write the styles of a store, for `read_styles`."""
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
        folder: Folder of the store.
        styles: The styles that the numbers refer to.
        pairs: The pairs.
        count: Number of pairs.
        split: Fingerprint of the photos that they are made from.

    Raises:
        ValueError: `pairs` does not hold `count` pairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "styles.json").unlink(missing_ok=True)  # incomplete until it is back
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
    """Return the fingerprint of the photos of a complete store, or None if there is none."""
    file = folder / "split.txt"
    complete = file.is_file() and (folder / "styles.json").is_file()
    return file.read_text(encoding="utf-8") if complete else None


def crop_square(path: Path, side: int, rng: random.Random) -> Pixels:
    """Cut a random square of 70 to 100 % of a picture's short side, scaled to `side` pixels."""
    image = open_picture(path)
    crop = round(min(image.size) * rng.uniform(0.7, 1.0))
    left, top = rng.randint(0, image.width - crop), rng.randint(0, image.height - crop)
    box = (left, top, left + crop, top + crop)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def painter_styles() -> list[StyleEntry]:
    """Return the painters as styles."""
    return [StyleEntry(name, painter.prompts, "", name) for name, painter in PAINTERS.items()]


def painter_pairs(
    photos: Sequence[Picture], count: int, seed: int, workers: int = 2
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Yield `count` pairs of the procedural painters, in turn."""
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
    photo = crop_square(path, _RENDER, place)
    names = list(PAINTERS)
    number = row % len(names)
    # one seed per style: if palette and grain varied, a pixel loss would learn their mean
    hand = np.random.default_rng((seed, number))
    painted = PAINTERS[names[number]](photo.astype(np.float32) / 255, hand)
    result = np.rint(painted * 255).astype(np.uint8)
    return list(_crops(photo, result, number, place))


def _crops(
    photo: Pixels, result: Pixels, number: int, rng: random.Random
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Cut squares of `SIZE` pixels at the same places of a photo and its result."""
    free = (_RENDER - SIZE) // GRID
    for _ in range(_CROPS):
        y, x = rng.randint(0, free) * GRID, rng.randint(0, free) * GRID
        box = np.s_[y : y + SIZE, x : x + SIZE]
        yield photo[box], result[box], number


def as_images(pixels: Sequence[Pixels]) -> Tensor:
    """Convert B pictures (H, W, 3) of bytes to a tensor (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
