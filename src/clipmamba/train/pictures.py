"""The training pictures with their texts, and their split into training, validation and test.

The pictures are listed in `style.csv`, `pairs.csv` and `content.csv` in the data folder, whose
README says where they come from.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.evaluate.protocol import family_of
from clipmamba.io import read_picture
from clipmamba.io.bars import inside_bars
from clipmamba.io.color import as_srgb
from clipmamba.train.shards import read_member

MOVEMENTS = (
    "impressionism", "post-impressionism", "symbolism", "baroque", "art nouveau", "romanticism",
    "expressionism",
)  # fmt: skip
MEDIA = ("painting", "illustration", "illustrator")  # first words that name no look
_COLUMNS = {  # of each list: required, optional
    "style.csv": (("file", "style_words"), ("artist", "genre", "kind", "caption")),
    "pairs.csv": (("file", "caption"), ()),
    "content.csv": (("file", "what"), ()),
}
FEW = 12  # pictures that a look needs to count as one


@dataclasses.dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        path: The file.
        kind: "style", "pair" or "photo".
        caption: Its full caption, or its style words if the list has none.
        texts: Shorter texts that apply: movement, artist, genre, object.
        movement: One of `MOVEMENTS` for a real painting, else "".
    """

    path: Path
    kind: str
    caption: str
    texts: tuple[str, ...]
    movement: str

    @property
    def held_out(self) -> bool:
        """Whether the picture is never trained on; see `split_of`."""
        return split_of(self.path) == "test"

    @property
    def family(self) -> str:
        """Name shared by pictures of one look: the style's first words, or the kind of thing."""
        if self.kind == "style":
            return (self.texts or (self.caption,))[0].split(",")[0].strip().lower()
        return f"{self.kind} {self.texts[-1]}"


def read_pictures(data: Path) -> list[Picture]:
    """Read the lists of the data folder, and drop held-out pictures that training would see.

    A held-out picture is dropped if it has a near-duplicate, directly or through others, that is
    trained on. So new rows in the lists never move a picture between training and test; at most
    they drop a held-out one.

    Raises:
        InputError: A list is missing, lacks a column, or names a picture that can't be read; or
            the lists are empty.
    """
    rows = [
        *(_style(data, row) for row in _rows(data / "style.csv")),
        *(_pair(data, row) for row in _rows(data / "pairs.csv")),
        *(_photo(data, row) for row in _rows(data / "content.csv")),
    ]
    if not rows:
        raise InputError(f"the lists in {data} name no pictures")
    with ThreadPoolExecutor() as pool:
        hashes = np.stack(list(pool.map(difference_hash, [p.path for p in rows])))
    groups = group_near_duplicates(hashes)
    learned = {group for row, group in zip(rows, groups, strict=True) if not row.held_out}
    return [
        row
        for row, group in zip(rows, groups, strict=True)
        if not (row.held_out and group in learned)
    ]


def split_of(file: Path) -> Literal["training", "validation", "test"]:
    """Return the split of a file, which depends only on its name.

    10 % are for the test, by the judge, and 2 % of the others for validation, by which a run
    selects its best weights.
    """
    name = file.stem.encode()
    if int(hashlib.blake2b(name).hexdigest(), 16) % 10 == 0:
        return "test"
    if int(hashlib.blake2b(name, person=b"validation").hexdigest(), 16) % 50 == 0:
        return "validation"
    return "training"


def set_aside(picture: Picture) -> bool:
    """Whether a picture is for validation; see `split_of`."""
    return split_of(picture.path) == "validation"


def split_fingerprint(files: Iterable[Path]) -> str:
    """Return a fingerprint of the files' splits, 16 hexadecimal digits.

    It does not depend on the files' order or folders. Data made under one split must not be
    trained on under another.
    """
    lines = sorted(f"{split_of(file)} {file.name}" for file in files)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def draw_by_look(pictures: Sequence[Picture], count: int, seed: int) -> list[tuple[Picture, str]]:
    """Draw pictures, preferring rare looks, and return them with the names of their looks.

    A look is one of the judge's families, in whatever order the style's words are, or the
    picture's own family; "" if it has fewer than `FEW` pictures. All pictures with "" count as one
    common look: a handful of pictures is not enough to learn a look.
    """
    if not pictures:
        return []
    names = [
        family_of(", ".join(picture.texts[:1]) or picture.caption) or picture.family
        for picture in pictures
    ]
    size = Counter(names)
    looks = [name if size[name] >= FEW and name not in MEDIA else "" for name in names]
    size = Counter(looks)
    weights = torch.tensor([size[look] ** -0.5 for look in looks])
    generator = torch.Generator().manual_seed(seed)
    rows = torch.multinomial(weights, min(count, len(pictures)), generator=generator)
    return [(pictures[row], looks[row]) for row in rows.tolist()]


def chosen_by_look(pictures: Sequence[Picture], listed: Path) -> list[tuple[Picture, str]]:
    """Return the pictures in a list, with their looks, without those that are held out.

    Args:
        pictures: Those that may be trained on.
        listed: CSV file with the columns `look` and `file`.

    Raises:
        InputError: The list lacks a column, or none of its pictures is among `pictures`.
    """
    rows = _table(listed, ("look", "file"))
    known = {picture.path.name: picture for picture in pictures}
    named = [(Path(row["file"]).name, row["look"]) for row in rows]
    chosen = [(known[name], look) for name, look in named if name in known]
    if not chosen:
        raise InputError(f"{listed} names no picture that may be trained on")
    return chosen


def open_picture(path: Path) -> Image.Image:
    """Read a training picture, a file or a member of a shard: upright, in sRGB, as RGB.

    Raises:
        InputError: It can't be read.
    """
    member = read_member(path)
    picture = read_picture(path if member is None else member, name=str(path))
    return as_srgb(picture).convert("RGB")


def without_bars(image: Image.Image) -> Image.Image:
    """Crop the black bars at the edges of a style picture."""
    box = inside_bars(np.asarray(image.convert("L"), np.float32))
    return image if box == (0, 0, *image.size) else image.crop(box)


def middle_square(image: Image.Image, side: int, part: float = 1.0) -> Image.Image:
    """Cut a square of `part` of the short side from the middle, at `side` pixels."""
    cut = part * min(image.size)
    left, top = (image.width - cut) / 2, (image.height - cut) / 2
    box = (left, top, left + cut, top + cut)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def difference_hash(path: Path) -> NDArray[np.uint64]:
    """Return the 256-bit difference hash of a picture, as 4 words.

    Each bit tells whether one of 16 × 16 cells is darker than its right neighbor.
    """
    light = open_picture(path).convert("L")
    cells = np.asarray(light.resize((17, 16), Image.Resampling.BOX), np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)


def group_near_duplicates(hashes: NDArray[np.uint64], distance: int = 12) -> list[int]:
    """Return the group of each picture: the first one within `distance` bits, transitively."""
    parent = list(range(len(hashes)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for start in range(0, len(hashes), 256):
        some = hashes[start : start + 256]
        apart = np.zeros((len(some), len(hashes)), np.uint16)
        for word in range(hashes.shape[1]):
            apart += np.bitwise_count(some[:, word, None] ^ hashes[None, :, word])
        for row, column in zip(*np.nonzero(apart <= distance), strict=True):
            a, b = root(start + int(row)), root(int(column))
            parent[max(a, b)] = min(a, b)
    return [root(index) for index in range(len(hashes))]


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a list; optional columns that it lacks are empty."""
    needed, optional = _COLUMNS[path.name]
    if not path.is_file():
        raise InputError(f"{path} is missing; --data names the folder that holds the picture lists")
    rows = _table(path, needed)
    for number, row in enumerate(rows, 1):
        if not (path.parent / row["file"]).is_file():
            raise InputError(f"{path}, row {number}: no file {row['file']!r} in {path.parent}")
    return [{**dict.fromkeys(optional, ""), **row} for row in rows]


def _table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, restval="")
            names, rows = table.fieldnames or [], list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"can't read {path} as comma-separated UTF-8: {error}") from error
    if not set(needed) <= set(names):
        found = ", ".join(names) or "none"
        raise InputError(
            f"{path} needs the columns {', '.join(needed)}, separated by commas; it has: {found}"
        )
    for number, row in enumerate(rows, 1):
        if None in row:
            raise InputError(f"{path}, row {number}: more cells than columns; quote the commas")
    return rows


def _style(data: Path, row: dict[str, str]) -> Picture:
    words = row["style_words"].replace(" | ", ", ")
    first = words.split(",")[0].strip()
    movement = first.lower() if row["kind"] == "real" and first.lower() in MOVEMENTS else ""
    texts = [words, first, f"in the style of {first}", f"{first} style"]
    if row["artist"]:
        texts += [row["artist"], f"in the style of {row['artist']}", f"{first} by {row['artist']}"]
    if row["genre"]:
        texts += [f"{first} {row['genre']}", f"a {first} {row['genre']} painting"]
    if movement:
        texts += [f"a {first} painting", f"a painting in the style of {first}"]
    caption = row["caption"] or ", ".join(t for t in (words, row["artist"]) if t)
    known = tuple(dict.fromkeys(text for text in texts if text.strip()))
    return Picture(data / row["file"], "style", caption or "a picture", known, movement)


def _pair(data: Path, row: dict[str, str]) -> Picture:
    name, _, look = row["caption"].rpartition(", ")
    texts = tuple(text for text in (name, look) if text)
    return Picture(data / row["file"], "pair", row["caption"], texts, "")


def _photo(data: Path, row: dict[str, str]) -> Picture:
    caption = f"a photo of {row['what']}"
    return Picture(data / row["file"], "photo", caption, ("a photo", "a photograph"), "")
