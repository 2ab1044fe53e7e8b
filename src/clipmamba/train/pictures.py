"""The training pictures with their words, and the split that keeps one painting on one side.

Reads the three lists of the data folder (its README says where the pictures come from):
`style.csv`, `pairs.csv` and `content.csv`.
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
from clipmamba.io.color import as_srgb
from clipmamba.train.shards import read_member

MOVEMENTS = (
    "impressionism", "post-impressionism", "symbolism", "baroque", "art nouveau", "romanticism",
    "expressionism",
)  # fmt: skip
MEDIA = ("painting", "illustration", "illustrator")  # first words that say no look
_COLUMNS = {  # of each list: those it needs, those it may lack
    "style.csv": (("file", "style_words"), ("artist", "genre", "kind", "caption")),
    "pairs.csv": (("file", "caption"), ()),
    "content.csv": (("file", "what"), ()),
}
FEW = 12  # pictures that share a look before it has a name


@dataclasses.dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        path: The file.
        kind: "style", "pair" or "photo".
        caption: Its full caption; style words where the list has no caption.
        texts: Shorter true texts: movement, artist, genre, object.
        movement: One of `MOVEMENTS` for a real painting, else "".
    """

    path: Path
    kind: str
    caption: str
    texts: tuple[str, ...]
    movement: str

    @property
    def held_out(self) -> bool:
        """Whether it is never trained on; see `split_of`."""
        return split_of(self.path) == "test"

    @property
    def family(self) -> str:
        """Pictures of one look share it: the style's first words, or the kind of thing."""
        if self.kind == "style":
            return (self.texts or (self.caption,))[0].split(",")[0].strip().lower()
        return f"{self.kind} {self.texts[-1]}"


def read_pictures(data: Path) -> list[Picture]:
    """The pictures of the data folder, without held-out ones that training would know.

    A held-out picture with a near-duplicate, or a near-duplicate's, that is trained on is left
    out. So rows that the lists gain never move a picture from training to the held-out ones or
    back; all they can do is to leave out a held-out one.

    Raises:
        InputError: A list is missing, lacks a column, or names a picture that can't be read.
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
    """What a file is for; its own name alone decides.

    A tenth is for the test, the judge's; by a fiftieth of the others a run chooses its best
    weights.
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
    """Of what files are for, in any order and any folder: 16 hexadecimal digits.

    What was made of one split must not be trained on under another.
    """
    lines = sorted(f"{split_of(file)} {file.name}" for file in files)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def draw_by_look(pictures: Sequence[Picture], count: int, seed: int) -> list[tuple[Picture, str]]:
    """Some pictures with the names of their looks, rare looks rather than common ones.

    A look is one of the judge's families, however the style's words are ordered, or the picture's
    own family; "" where only a few share it. All of "" count as one look, and a common one: what a
    handful of pictures shows can't be learned.
    """
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


def open_picture(path: Path) -> Image.Image:
    """A picture of the training, a file or a member of a shard, upright, in sRGB, as RGB.

    Raises:
        InputError: It can't be read.
    """
    return as_srgb(read_picture(read_member(path) or path, name=str(path))).convert("RGB")


def difference_hash(path: Path) -> NDArray[np.uint64]:
    """256 bits, as 4 words: whether each of 16×16 cells is brighter than its right neighbor."""
    light = open_picture(path).convert("L")
    cells = np.asarray(light.resize((17, 16), Image.Resampling.BOX), np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)


def group_near_duplicates(hashes: NDArray[np.uint64], distance: int = 12) -> list[int]:
    """Numbers each picture's group: the first picture within `distance` bits, transitively."""
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
    """The rows of a list; columns that it lacks are empty, but for those that say what there is."""
    needed, optional = _COLUMNS[path.name]
    if not path.is_file():
        raise InputError(f"{path} is missing; --data names the folder that holds the picture lists")
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
        if not (path.parent / row["file"]).is_file():
            raise InputError(f"{path}, row {number}: no file {row['file']!r} in {path.parent}")
    return [{**dict.fromkeys(optional, ""), **row} for row in rows]


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
