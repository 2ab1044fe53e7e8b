"""Prepared training data: style pictures with their embeddings, photos, painters' pairs.

`prepare` writes it once. Training reads the pictures from the data folder as it goes, so the
memory that it needs does not grow with their number.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
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
from clipmamba.files import write_json
from clipmamba.styles import Style, StylePrior
from clipmamba.train.mini.looks import look_words, own_words
from clipmamba.train.pictures import Picture, open_picture, split_fingerprint
from clipmamba.train.stylizer.pairs import PairStore, as_images
from clipmamba.weights import write_tensors

VIEWS = (1.0, 0.75)  # sides of the central squares, as fractions of a picture's short side
GRAY_SHARE = 0.4  # how often a black-and-white picture is drawn, relative to one in color
PHOTOS_SEEN = 300  # photos whose embeddings are averaged, at most
_SIDE = 224  # pixels at which pictures are encoded
_LIST, _POINTS, _PAINTERS = "prepared.json", "points.safetensors", "painters"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The contents of a prepared folder.

    Attributes:
        styles: Files of the N style pictures, relative to the data folder.
        points: Their unit style embeddings, (N, views, E).
        looks: Number of the look of each, (N,); -1 for none.
        shares: Probability that each is drawn, (N,).
        photos: Files of the photos, relative to the data folder.
        photo_point: Unit mean embedding of photos, (E,).
        clip: Name of the CLIP that gave the embeddings.
        painters: The P exact pairs by the painters, if there are any.
        painted: Unit style embeddings of their results, (P, E).
        words: Unit style embeddings of words, (W, E).
        meant: What each of them means, (W,): the number of a look, or -1 - the number of a painter.
    """

    styles: tuple[str, ...]
    points: Tensor
    looks: Tensor
    shares: Tensor
    photos: tuple[str, ...]
    photo_point: Tensor
    clip: str
    painters: PairStore | None
    painted: Tensor
    words: Tensor
    meant: Tensor

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
        if listed.get("split") != _split(listed["styles"], listed["photos"]):
            raise InputError(
                f"{folder} was prepared when other pictures were held out; run `prepare` again"
            )
        tensors = load_file(folder / _POINTS)
        painters = PairStore(folder / _PAINTERS) if (folder / _PAINTERS).is_dir() else None
        return cls(
            tuple(listed["styles"]),
            tensors["points"].float(),
            tensors["looks"],
            tensors["shares"],
            tuple(listed["photos"]),
            tensors["photo"].float(),
            listed["clip"],
            painters,
            tensors["painted"].float(),
            tensors["words"].float(),
            tensors["meant"],
        )

    def save(self, folder: Path) -> None:
        """Write everything that `load` reads except the painters' pairs, already in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "points": self.points.half(),
            "looks": self.looks,
            "painted": self.painted.half(),
            "words": self.words.half(),
            "meant": self.meant,
            "shares": self.shares / self.shares.sum(),
            "photo": self.photo_point,
        }
        write_tensors(folder / _POINTS, tensors, {})
        listed = {
            "clip": self.clip,
            "split": _split(self.styles, self.photos),
            "styles": self.styles,
            "photos": self.photos,
        }
        write_json(folder / _LIST, listed)


def prepare(
    data: Path,
    drawn: Sequence[tuple[Picture, str]],
    photos: Sequence[Picture],
    clip: Clip,
    output: Path,
    prior: StylePrior | None = None,
) -> None:
    """Encode style pictures, and the words for their looks.

    Args:
        data: The data folder.
        drawn: Style pictures with the names of their looks; "" for none.
        photos: The photos.
        clip: Encodes the style pictures, photos, and results of the painters' pairs in `output`.
        output: Folder to write the lists and embeddings to.
        prior: Maps the words for a look to style embeddings; without it no words are stored.

    Raises:
        InputError: There are no style pictures, or no photos.
    """
    if not drawn or not photos:
        raise InputError(f"{data} has {len(drawn)} style pictures and {len(photos)} photos to use")
    files = [str(picture.path.relative_to(data)) for picture, _ in drawn]
    views = (view for picture, _ in drawn for view in _views(picture.path))
    points, gray = _encode(views, clip, len(drawn) * len(VIEWS))
    looks = Counter(look for _, look in drawn)
    numbers = {look: number for number, look in enumerate(filter(None, looks))}
    shares = torch.tensor([looks[look] ** -0.5 for _, look in drawn])
    shares = torch.where(gray[:: len(VIEWS)], GRAY_SHARE * shares, shares)
    painted = points.new_zeros(0, points.shape[1])
    painters = PairStore(output / _PAINTERS) if (output / _PAINTERS).is_dir() else None
    names = {number: look_words(look) for look, number in numbers.items()}
    if painters is not None:
        painted, _ = _encode(iter(painters.results), clip, len(painters))
        names |= {-1 - number: own_words(s.texts) for number, s in enumerate(painters.styles)}
    said = [(word, meant) for meant, words in names.items() for word in words]
    words = points.new_zeros(0, points.shape[1])
    if prior is not None:
        words = torch.stack([Style.text(word, clip, prior).embedding.cpu() for word, _ in said])
    seen = photos[:: -(-len(photos) // PHOTOS_SEEN)]
    photo_points, _ = _encode((_views(photo.path)[0] for photo in seen), clip, len(seen))
    Prepared(
        styles=tuple(files),
        points=points.view(-1, len(VIEWS), points.shape[1]),
        looks=torch.tensor([numbers.get(look, -1) for _, look in drawn]),
        shares=shares,
        photos=tuple(str(photo.path.relative_to(data)) for photo in photos),
        photo_point=F.normalize(photo_points.mean(0), dim=0),
        clip=clip.name,
        painters=painters,
        painted=painted,
        words=words,
        meant=torch.tensor([meant for _, meant in said[: len(words)]], dtype=torch.int64),
    ).save(output)


def _split(styles: Iterable[str], photos: Iterable[str]) -> str:
    """Return the fingerprint of the listed pictures, under the current split."""
    return split_fingerprint(map(Path, (*styles, *photos)))


def _views(path: Path) -> list[NDArray[np.uint8]]:
    """Cut squares (224, 224, 3) from the middle of a picture."""
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
def _encode(squares: Iterable[NDArray[np.uint8]], clip: Clip, count: int) -> tuple[Tensor, Tensor]:
    """Return the unit embeddings (N, E) of squares, and which squares are gray, (N,)."""
    points, gray, batch = [], [], []
    for number, square in enumerate(tqdm(squares, "points", count, mininterval=10), 1):
        batch.append(square)
        if len(batch) == 32 or number == count:
            images = as_images(batch)
            points.append(clip.encode_image(images.to(clip.device)).cpu())
            gray.append((images.amax(1) - images.amin(1)).mean((1, 2)) < 0.06)
            batch = []
    return torch.cat(points), torch.cat(gray)
