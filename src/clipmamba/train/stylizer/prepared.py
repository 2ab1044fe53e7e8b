"""Prepared training data: style pictures with their embeddings, photos, painters' pairs.

`prepare` writes it once. Training reads the pictures from the data folder as it goes, and maps
names and embeddings, so the memory that it needs hardly grows with their number.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.files import write_json, write_whole
from clipmamba.regions.faces import find_faces
from clipmamba.styles import Style, StylePrior
from clipmamba.train.mini.looks import look_words, own_words
from clipmamba.train.names import Names, write_names
from clipmamba.train.pictures import (
    Picture,
    middle_square,
    open_picture,
    split_fingerprint,
    without_bars,
)
from clipmamba.train.stylizer.pairs import PairStore, as_images
from clipmamba.weights import write_tensors

VIEWS = (1.0, 0.75)  # sides of the central squares, as fractions of a picture's short side
GRAY_SHARE = 0.4  # how often a black-and-white picture is drawn, relative to one in color
PAINTED_SHARE = 0.3  # the same for pictures of looks whose words mean a painter's exact pairs
PHOTOS_SEEN = 300  # photos whose embeddings are averaged, at most
_SIDE = 224  # pixels at which pictures are encoded
STYLES, PHOTOS = "styles", "photos"  # lists of names in a prepared folder
_LIST, _PAINTERS = "prepared.json", "painters"
_POINTS, _TABLES = "points.npy", "points.safetensors"  # embeddings of the styles; the rest
_CHECKED = 100_000  # names of a list whose split is checked, about


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The contents of a prepared folder.

    Attributes:
        styles: Files of the N style pictures, relative to the data folder.
        points: Their unit style embeddings, (N, views, E), in half precision, memory-mapped.
        looks: Number of the look of each, (N,); -1 for none.
        shares: Probability that each is drawn, (N,); looks with words take equal parts in words.
        photos: Files of the photos, relative to the data folder.
        photo_point: Unit mean embedding of photos, (E,).
        clip: Name of the CLIP that gave the embeddings.
        painters: The P exact pairs by the painters, if there are any.
        painted: Unit style embeddings of their results, (P, E).
        words: Unit style embeddings of words, (W, E).
        meant: What each of them means, (W,): the number of a look, or -1 - the number of a painter.
        faces: Row of a photo and left, top, right, bottom of a face in it, as fractions of its
            width and height, (F, 5).
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
    words: Tensor
    meant: Tensor
    faces: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 5))

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read what `prepare` wrote.

        Raises:
            InputError: The folder is incomplete, or was prepared under another split.
        """
        file = folder / _LIST
        if not file.is_file():
            raise InputError(f"{folder} is not prepared; run the `prepare` command first")
        listed = json.loads(file.read_text(encoding="utf-8"))
        # Older folders have the names in this list, and the points among the tables.
        styles = listed["styles"] if "styles" in listed else Names(folder / STYLES)
        photos = listed["photos"] if "photos" in listed else Names(folder / PHOTOS)
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
            tensors["words"].float(),
            tensors["meant"],
            tensors.get("faces", torch.zeros(0, 5)),  # older folders have none
        )

    def anchors(self, painters: Sequence[str] | None = None) -> Tensor:
        """Compute the mean style embedding (K, E) of the words for each look and each painter.

        Args:
            painters: The painters to take; None for all.

        Raises:
            InputError: No words were prepared.
        """
        names = [] if self.painters is None else [style.name for style in self.painters.styles]
        taken = names if painters is None else painters
        unused = {-1 - number for number, name in enumerate(names) if name not in taken}
        meant = sorted(set(self.meant.tolist()) - unused)
        if not meant:
            raise InputError("--anchors needs words; run `prepare` with --prior")
        return torch.stack([self.words[self.meant == each].mean(0) for each in meant])

    def firsts(self) -> list[int]:
        """List the rows of the pictures that words mean: the first of each look with words."""
        looks, rows = np.unique(self.looks.numpy(), return_index=True)
        spoken = (looks >= 0) & np.isin(looks, self.meant.numpy())  # below 0, `meant` has painters
        return list(rows[spoken].tolist())

    def part(
        self, styles: Sequence[int], photos: Sequence[int], painted: Sequence[int]
    ) -> Prepared:
        """Select rows of the style pictures, photos and painters' results; the pairs stay whole."""
        rows = {row: number for number, row in enumerate(photos)}
        faces = [[rows[row], *box] for row, *box in self.faces.tolist() if row in rows]
        return dataclasses.replace(
            self,
            styles=tuple(self.styles[row] for row in styles),
            points=self.points[styles],
            looks=self.looks[styles],
            shares=self.shares[styles],
            photos=tuple(self.photos[row] for row in photos),
            painted=self.painted[painted],
            faces=torch.tensor(faces).reshape(-1, 5),
        )

    def save(self, folder: Path) -> None:
        """Write everything that `load` reads except the painters' pairs, already in the folder."""
        write_names(folder / STYLES, self.styles)
        write_names(folder / PHOTOS, self.photos)
        with write_whole(folder / _POINTS) as part:
            np.save(part, self.points.half().flatten(0, 1).numpy())
        self.save_tables(folder)

    def save_tables(self, folder: Path) -> None:
        """Write what `load` reads besides the names, the styles' points and the pairs."""
        tensors = {
            "looks": self.looks,
            "painted": self.painted.half(),
            "words": self.words.half(),
            "meant": self.meant,
            "shares": self.shares / self.shares.sum(),
            "photo": self.photo_point,
            "faces": self.faces,
        }
        write_tensors(folder / _TABLES, tensors, {})
        split = _split(self.styles, self.photos)
        write_json(folder / _LIST, {"clip": self.clip, "split": split})


def prepare(
    data: Path,
    drawn: Sequence[tuple[Picture, str]],
    photos: Sequence[Picture],
    clip: Clip,
    output: Path,
    prior: StylePrior | None = None,
    techniques: Mapping[str, str] = MappingProxyType({}),
    *,
    faces: bool = False,
) -> None:
    """Encode style pictures, and the words for their looks.

    Args:
        data: The data folder.
        drawn: Style pictures with the names of their looks; "" for none.
        photos: The photos.
        clip: Encodes the style pictures, photos, and results of the painters' pairs in `output`.
        output: Folder to write the lists and embeddings to.
        prior: Maps the words for a look to style embeddings; without it no words are stored.
        techniques: Painters of looks whose words mean that painter's exact pairs, not a picture.
        faces: Whether to find the faces of the photos, which needs the package `mtcnn`.

    Raises:
        InputError: There are no style pictures, or no photos, or a technique's look or painter is
            unknown.
        WeightsError: The package `mtcnn` is missing.
    """
    write_names(output / STYLES, (str(picture.path.relative_to(data)) for picture, _ in drawn))
    write_names(output / PHOTOS, (str(photo.path.relative_to(data)) for photo in photos))
    names = list(dict.fromkeys(look for _, look in drawn if look))
    numbers = {look: number for number, look in enumerate(names)}
    looks = np.array([numbers.get(look, -1) for _, look in drawn], np.int64)
    prepare_listed(data, looks, names, clip, output, prior, techniques, faces=faces)


def prepare_listed(
    data: Path,
    looks: NDArray[np.int64],
    names: Sequence[str],
    clip: Clip,
    output: Path,
    prior: StylePrior | None = None,
    techniques: Mapping[str, str] = MappingProxyType({}),
    *,
    faces: bool = False,
) -> None:
    """Encode the style pictures and photos whose names were written, in bounded memory.

    Args:
        data: The data folder.
        looks: Number of the look of each style picture, (N,); -1 for none.
        names: Names of the looks.
        clip: See `prepare`.
        output: Folder with the lists `STYLES` and `PHOTOS`.
        prior: See `prepare`.
        techniques: See `prepare`.
        faces: See `prepare`.

    Raises:
        InputError: See `prepare`.
        WeightsError: See `prepare`.
    """
    styles, photos = Names(output / STYLES), Names(output / PHOTOS)
    if not styles or not photos:
        raise InputError(f"{data} has {len(styles)} style pictures and {len(photos)} photos to use")
    painters = PairStore(output / _PAINTERS) if (output / _PAINTERS).is_dir() else None
    painted_looks = _painted_looks(techniques, names, painters)
    (output / _LIST).unlink(missing_ok=True)  # incomplete until it is back
    shape = (len(styles) * len(VIEWS), clip.embed_dim)
    views = (view for name in styles for view in _views(data / name))
    with write_whole(output / _POINTS) as part:
        points = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        gray = _encode(views, clip, points)
        points.flush()
    shares = torch.from_numpy(np.bincount(looks + 1)[looks + 1] ** -0.5).float()
    shares = torch.where(gray[:: len(VIEWS)], GRAY_SHARE * shares, shares)
    rarer = torch.from_numpy(np.isin(looks, list(painted_looks)))
    shares = torch.where(rarer, PAINTED_SHARE * shares, shares)
    painted = np.empty((0 if painters is None else len(painters), clip.embed_dim), np.float32)
    said = [
        (word, painted_looks.get(number, number))
        for number, look in enumerate(names)
        for word in look_words(look)
    ]
    if painters is not None:
        _encode(iter(painters.results), clip, painted)
        for number, style in enumerate(painters.styles):
            said += [(word, -1 - number) for word in own_words(style.texts)]
    words = torch.zeros(0, clip.embed_dim)
    if prior is not None:
        words = torch.stack([Style.text(word, clip, prior).embedding.cpu() for word, _ in said])
    seen = photos[:: -(-len(photos) // PHOTOS_SEEN)]
    photo_points = np.empty((len(seen), clip.embed_dim), np.float32)
    _encode((_views(data / name)[0] for name in seen), clip, photo_points)
    Prepared(
        styles=styles,
        points=_map_points(output, len(styles)),
        looks=torch.from_numpy(looks),
        shares=shares,
        photos=photos,
        photo_point=F.normalize(torch.from_numpy(photo_points).mean(0), dim=0),
        clip=clip.name,
        painters=painters,
        painted=torch.from_numpy(painted),
        words=words,
        meant=torch.tensor([meant for _, meant in said[: len(words)]], dtype=torch.int64),
        faces=_faces(data, photos) if faces else torch.zeros(0, 5),
    ).save_tables(output)


def _faces(data: Path, photos: Sequence[str]) -> Tensor:
    """Find the faces of photos, (F, 5), as in `Prepared`."""
    found = [torch.zeros(0, 5)]
    for row, name in enumerate(tqdm(photos, "faces", mininterval=10)):
        photo = as_images([np.asarray(open_picture(data / name))])
        height, width = photo.shape[2:]
        boxes = find_faces(photo) / torch.tensor([width, height, width, height])
        found.append(torch.cat([torch.full((len(boxes), 1), float(row)), boxes], 1))
    return torch.cat(found)


def _painted_looks(
    techniques: Mapping[str, str], looks: Sequence[str], painters: PairStore | None
) -> dict[int, int]:
    """Map the numbers of looks to what their words mean instead: -1 - the number of a painter."""
    names = [] if painters is None else [style.name for style in painters.styles]
    checks = (("look", list(techniques), looks), ("painter", list(techniques.values()), names))
    for kind, given, known in checks:
        if unknown := set(given) - set(known):
            raise InputError(f"no {kind} {min(unknown)!r}; known are {', '.join(known) or 'none'}")
    return {looks.index(look): -1 - names.index(name) for look, name in techniques.items()}


def _map_points(folder: Path, count: int) -> Tensor:
    table = np.load(folder / _POINTS, mmap_mode="c")  # copied on write: torch needs it writable
    return torch.from_numpy(table).view(count, len(VIEWS), table.shape[1])


def _split(styles: Sequence[str], photos: Sequence[str]) -> str:
    """Return the fingerprint of the listed pictures, or of an even choice, under today's split."""
    some = (name for names in (styles, photos) for name in names[:: 1 + len(names) // _CHECKED])
    return split_fingerprint(map(Path, some))


def _views(path: Path) -> list[NDArray[np.uint8]]:
    """Cut squares (224, 224, 3) from the middle of a picture."""
    image = without_bars(open_picture(path))
    return [np.asarray(middle_square(image, _SIDE, part)) for part in VIEWS]


@torch.no_grad()
def _encode(squares: Iterable[NDArray[np.uint8]], clip: Clip, table: NDArray[Any]) -> Tensor:
    """Write the unit embeddings of N squares into a table (N, E), and return which are gray."""
    gray, batch, count = [], [], len(table)
    for number, square in enumerate(tqdm(squares, "points", count, mininterval=10), 1):
        batch.append(square)
        if len(batch) == 32 or number == count:
            images = as_images(batch)
            points = clip.encode_image(images.to(clip.device))
            table[number - len(batch) : number] = points.cpu().numpy()
            gray.append((images.amax(1) - images.amin(1)).mean((1, 2)) < 0.06)
            batch = []
    return torch.cat(gray)
