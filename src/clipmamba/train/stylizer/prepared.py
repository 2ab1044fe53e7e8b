"""What training draws from: style pictures with their points, photos, painters' pairs.

`prepare` writes it once; training then reads the pictures from the data folder as it goes. Names
and points are memory-mapped, so the memory that a run takes hardly grows with their number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.evaluate.protocol import family_of
from clipmamba.files import write_json
from clipmamba.train.names import Names, write_names
from clipmamba.train.pictures import (
    FEW,
    MEDIA,
    Picture,
    draw_by_look,
    open_picture,
    split_fingerprint,
    split_of,
)
from clipmamba.train.shards import list_members
from clipmamba.train.stylizer.pairs import PairStore, as_images
from clipmamba.weights import write_tensors

VIEWS = (1.0, 0.75)  # of a style picture's short side: the whole of it, and its middle
GREY_SHARE = 0.4  # how often a black and white picture is drawn, beside one in colour
PHOTOS_SEEN = 300  # at most, to find out where photos lie
_SIDE = 224  # pixels at which pictures are encoded
_LIST, _PAINTERS = "prepared.json", "painters"
_TABLES, _POINTS = "points.safetensors", "points.npy"  # small tables; all styles' points
_STYLES, _PHOTOS = "styles", "photos"  # lists of names
_CHECKED = 100_000  # names of a list whose split is checked


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared folder.

    Attributes:
        styles: Files of the style pictures, below the data folder.
        points: Their unit style points, (N, views, E), in half precision, memory-mapped.
        looks: Number of the look that each shares with others, (N,); -1 for none.
        shares: How often each is drawn, (N,); they add up to 1.
        photos: Files of the photos, below the data folder.
        photo_point: Where photos lie in the CLIP's space, a unit point (E,): their mean.
        clip: Name of the CLIP that gave the points.
        painters: Exact pairs by the painters, if there are any.
        painted: Unit style points of their results, (P, E).
    """

    styles: Sequence[str]
    points: Tensor
    looks: Tensor
    shares: Tensor
    photos: Sequence[str]
    photo_point: Tensor
    clip: str
    painters: PairStore | None
    painted: Tensor

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read what `prepare` wrote.

        Raises:
            InputError: The folder is not complete, or was prepared under another split.
        """
        file = folder / _LIST
        if not file.is_file():
            raise InputError(f"{folder} is not prepared; run the `prepare` command first")
        listed = json.loads(file.read_text(encoding="utf-8"))
        # Folders of before names had files of their own have them in the list.
        styles = listed["styles"] if "styles" in listed else Names(folder / _STYLES)
        photos = listed["photos"] if "photos" in listed else Names(folder / _PHOTOS)
        if listed.get("split") != _split(styles, photos):
            raise InputError(
                f"{folder} was prepared when other pictures were held out; run `prepare` again"
            )
        tensors = load_file(folder / _TABLES)
        painters = PairStore(folder / _PAINTERS) if (folder / _PAINTERS).is_dir() else None
        return cls(
            styles,
            tensors["points"] if "points" in tensors else _map_points(folder, len(styles)),
            tensors["looks"],
            tensors["shares"],
            photos,
            tensors["photo"].float(),
            listed["clip"],
            painters,
            tensors["painted"].float(),
        )

    def save(self, folder: Path) -> None:
        """Write the rest of what `load` reads; stores of names, points, pairs are there already."""
        tensors = {
            "looks": self.looks,
            "painted": self.painted.half(),
            "shares": self.shares / self.shares.sum(),
            "photo": self.photo_point,
        }
        write_tensors(folder / _TABLES, tensors, {})
        split = _split(self.styles, self.photos)
        write_json(folder / _LIST, {"clip": self.clip, "split": split})


def prepare(
    data: Path, pictures: Sequence[Picture], clip: Clip, output: Path, count: int, seed: int
) -> None:
    """Choose style pictures, rare looks rather than common ones, and encode them.

    Args:
        data: The data folder.
        pictures: Those of it that may be trained on.
        clip: Encodes the style pictures and the results of the painters' pairs in `output`.
        output: Folder; gets a list and a table of points.
        count: Style pictures.
        seed: Seed of the choice.

    Raises:
        InputError: There are no style pictures, or no photos.
    """
    photos = [str(p.path.relative_to(data)) for p in pictures if p.kind == "photo"]
    shown = [picture for picture in pictures if picture.kind == "style"]
    _check_counts(data, len(shown), len(photos))
    drawn = draw_by_look(shown, count, seed)
    counted = Counter(look for _, look in drawn)
    numbers = {look: number for number, look in enumerate(filter(None, counted))}
    looks = np.array([numbers.get(look, -1) for _, look in drawn])
    files = (str(picture.path.relative_to(data)) for picture, _ in drawn)
    write_names(output / _STYLES, files)
    write_names(output / _PHOTOS, photos)
    _encode_all(data, looks, clip, output)


def prepare_shards(data: Path, clip: Clip, output: Path, count: int, seed: int, split: str) -> None:
    """The same of a folder of shards, however many pictures it has; see `list_members`.

    Args:
        data: The data folder.
        clip: Encodes the style pictures and the results of the painters' pairs in `output`.
        output: Folder; has the list of `list_photos` already.
        count: Style pictures.
        seed: Seed of the choice.
        split: "training" or "validation"; see `split_of`.

    Raises:
        InputError: There are no style pictures, or no photos.
    """
    with tempfile.TemporaryDirectory(dir=output) as folder:
        raw = Path(folder) / "looks"  # a hash of each, 8 bytes
        with raw.open("wb") as hashes:

            def candidates() -> Iterator[str]:
                for place, words in list_members(data, "style"):
                    if split_of(Path(place)) == split:
                        hashes.write(_hash(_look(words)))
                        yield place

            shown = write_names(Path(folder) / _STYLES, candidates())
        _check_counts(data, len(shown), len(Names(output / _PHOTOS)))
        rows, looks = _draw(np.fromfile(raw, np.uint64), count, seed)
        write_names(output / _STYLES, (shown[row] for row in rows))
    _encode_all(data, looks, clip, output)


def list_photos(data: Path, output: Path, split: str) -> Names:
    """Write the list of a split's photos in the shards of a folder into a prepared one."""
    places = (place for place, _ in list_members(data, "photo"))
    return write_names(output / _PHOTOS, (p for p in places if split_of(Path(p)) == split))


def _check_counts(data: Path, styles: int, photos: int) -> None:
    if not styles or not photos:
        raise InputError(f"{data} has {styles} style pictures and {photos} photos to use")


def _look(words: str) -> str:
    """Of a style's words, as `draw_by_look` has it; "" where they say none."""
    look = family_of(words) or words.split(",")[0].strip().lower()
    return "" if look in MEDIA else look


def _hash(look: str) -> bytes:
    return hashlib.blake2b(look.encode(), digest_size=8).digest()


def _draw(
    hashes: NDArray[np.uint64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by the rule of `draw_by_look`, and the numbers of their looks, -1 for none."""
    none = np.frombuffer(_hash(""), np.uint64)[0]
    known, looks, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    named = (sizes >= FEW) & (known != none)
    size = np.where(named, sizes, sizes[~named].sum())
    # The smallest of exponential times: a draw without replacement, by weight.
    times = np.random.default_rng(seed).exponential(size=len(hashes)) * np.sqrt(size[looks])
    rows = np.sort(np.argsort(times)[:count])
    numbers = np.where(named, np.cumsum(named) - 1, -1)
    return rows, numbers[looks[rows]]


def _encode_all(data: Path, looks: NDArray[np.int64], clip: Clip, output: Path) -> None:
    """Encode what the lists of names in `output` say, and write the rest of a prepared folder."""
    styles, photos = Names(output / _STYLES), Names(output / _PHOTOS)
    views = (view for name in styles for view in _views(data / name))
    grey = _encode(views, clip, len(styles) * len(VIEWS), output / _POINTS)
    sizes = np.bincount(looks + 1)
    shares = torch.from_numpy(sizes[looks + 1] ** -0.5).float()
    shares = torch.where(grey[:: len(VIEWS)], GREY_SHARE * shares, shares)
    with tempfile.TemporaryDirectory(dir=output) as folder:
        file = Path(folder) / _POINTS
        seen = photos[:: -(-len(photos) // PHOTOS_SEEN)]
        _encode((_views(data / name)[0] for name in seen), clip, len(seen), file)
        photo_points = torch.from_numpy(np.load(file)).float()
        painters = PairStore(output / _PAINTERS) if (output / _PAINTERS).is_dir() else None
        painted = photo_points.new_zeros(0, photo_points.shape[1])
        if painters is not None:
            _encode(iter(painters.results), clip, len(painters), file)
            painted = torch.from_numpy(np.load(file)).float()
    Prepared(
        styles=styles,
        points=_map_points(output, len(styles)),
        looks=torch.from_numpy(looks),
        shares=shares,
        photos=photos,
        photo_point=F.normalize(photo_points.mean(0), dim=0),
        clip=clip.name,
        painters=painters,
        painted=painted,
    ).save(output)


def _map_points(folder: Path, count: int) -> Tensor:
    table = np.load(folder / _POINTS, mmap_mode="c")  # copied on write: torch wants it writable
    return torch.from_numpy(table).view(count, len(VIEWS), table.shape[1])


def _split(styles: Sequence[str], photos: Sequence[str]) -> str:
    """Of the pictures that are listed, under today's rule; of long lists, of some evenly spaced."""
    some = (name for names in (styles, photos) for name in names[:: 1 + len(names) // _CHECKED])
    return split_fingerprint(map(Path, some))


def _views(path: Path) -> list[NDArray[np.uint8]]:
    """Squares (224, 224, 3) from the middle of a picture."""
    image = open_picture(path)
    squares = []
    for part in VIEWS:
        side = part * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        square = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box=box)
        squares.append(np.asarray(square))
    return squares


@torch.no_grad()
def _encode(squares: Iterable[NDArray[np.uint8]], clip: Clip, count: int, file: Path) -> Tensor:
    """Write unit points (N, E) in half precision, and give which squares are grey, (N,)."""
    table = np.lib.format.open_memmap(file, "w+", np.float16, (count, clip.embed_dim))
    grey, batch = [], []
    for number, square in enumerate(tqdm(squares, "points", count, mininterval=10), 1):
        batch.append(square)
        if len(batch) == 32 or number == count:
            images = as_images(batch)
            points = clip.encode_image(images.to(clip.device)).half().cpu().numpy()
            table[number - len(batch) : number] = points
            grey.append((images.amax(1) - images.amin(1)).mean((1, 2)) < 0.06)
            batch = []
    table.flush()
    return torch.cat(grey)
