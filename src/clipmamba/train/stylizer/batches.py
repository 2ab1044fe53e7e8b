"""Batches for the stylizer: photos with the style or result that each should get."""

from __future__ import annotations

import logging
import math
import random
from array import array
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.train.names import stable_hash
from clipmamba.train.pictures import middle_square, open_picture, without_bars
from clipmamba.train.shards import missing_pictures
from clipmamba.train.stylizer.pairs import SIZE, PairStore, as_images
from clipmamba.train.stylizer.prepared import Prepared

logger = logging.getLogger("clipmamba")

STYLE_SIDE = 256  # pixels; side of the middle square of a style picture, about that of its file
PHOTO_ZOOM = (1.0, 2.5)  # a photo's short side, in sides of the crop
OTHERS = 63  # styles beside those of the batch, for the contrastive loss
MIXED = 0.3  # of the others are means of pictures of one look, like those of words
MOST_MIXED = 5  # pictures in such a mean, at most
FACES = 0.2  # of the photos are drawn for a face that was found in them, and cropped around it
FIRST = 6  # style pictures to begin with, if their number grows
NO_FACE = (0.0, 0.0, 0.0, 0.0)
BLUR = 0.01  # standard deviation of the noise on each number of a style embedding
SAME = 0.999  # cosine similarity of the embeddings of one wording, stored in half precision

Box = tuple[float, float, float, float]  # left, top, right, bottom


class StylizerBatches:
    """Batches of photos with style pictures or exact results.

    Within a process, all samples of a step share the side of the crops and the stroke size, so
    that VGG sees the style pictures in one pass.

    Args:
        data: The data folder.
        prepared: The prepared folder to draw from.
        batch: Samples per step, over all processes.
        sides: Sides of the crops in pixels; each is drawn so often that all take about the same
            total time.
        strokes: Smallest and largest stroke size at the largest of `sides`; the largest is reduced
            in proportion for smaller crops.
        exact: Samples per step with a painter's exact result.
        seed: Seed of the draw.
        double_every: Steps in which the number of style pictures doubles, from `FIRST` of as many
            looks to all; 0 for all from the start. With all at once, the network first learns
            their mean, and stays there for long.
        painters: Names of the painters whose exact pairs to draw; all if empty. Where there are
            real pictures of a look, they teach it better.
        words: Share of the samples that have words, among those whose look or painter has any.
            Looks with words take equal parts in it, whatever the shares of their pictures.

    Raises:
        InputError: A side is not a multiple of 8 from 64 up, `exact` is not 0 and there are no
            pairs, a painter is unknown, or pictures are missing.
    """

    def __init__(
        self,
        data: Path,
        prepared: Prepared,
        batch: int,
        sides: tuple[int, ...],
        strokes: tuple[float, float],
        exact: int,
        seed: int,
        double_every: int = 0,
        painters: tuple[str, ...] = (),
        words: float = 0.4,
    ):
        if any(side % 8 or side < 64 for side in sides):
            raise InputError(f"--side must be a multiple of 8 from 64 up, not {sides}")
        if exact and prepared.painters is None:
            raise InputError(
                "--exact needs exact pairs, and none are prepared; "
                "give --exact 0, or run `prepare` with --painters"
            )
        missing = missing_pictures(data, chain(prepared.styles, prepared.photos))
        if missing:
            raise InputError(
                f"{data} lacks {len(missing)} prepared pictures, such as {missing[0]}; "
                "name the data folder that was prepared, or prepare again"
            )
        self.data, self.prepared = data, prepared
        self.size, self.sides, self.strokes = batch, sides, strokes
        self.exact, self.seed = exact, seed
        self.double_every = double_every
        self.word_share = words
        self._pairs = pairs_of(prepared.painters, painters) if exact else []
        if exact and words and (shared := _with_words_of_looks(prepared, painters)):
            logger.info(
                "some words mean both a look's first picture and the exact pairs by %s, so they "
                "are trained towards both; run `prepare` with --technique LOOK PAINTER, or name "
                "the painters to draw with --painter",
                ", ".join(shared),
            )
        self._shares = prepared.shares.double().cumsum(0).numpy()
        self._alike = _by_look(prepared.looks.numpy())
        self._order = _order(self._alike, seed)
        self._firsts = np.flatnonzero(np.isin(self._order, prepared.firsts()))  # places in order
        self._words: dict[int, list[int]] = defaultdict(list)  # of each look and painter
        for row, meant in enumerate(prepared.meant.tolist()):
            self._words[meant].append(row)

    def batch(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        """Return the tensors of a process for a step.

        Returns:
            `photo` (B, 3, S, S) in [0, 1], `style` (B, E), `stroke` (B,), `seed` (), then
            `picture` (B - X, 3, 256, 256), style pictures of the first samples, `picture_key`
            (B - X,), a number for each of their files, `face` (B - X, 4), left, top, right, bottom
            of a face in their photos, in pixels, 0 without one, and `result` (X, 3, S, S), exact
            results of the last X. All strokes have one size, except in exact results that can't be
            scaled that far. `others` (63, E) are embeddings of other styles, and `source` (E,) is
            the mean embedding of photos. `weights` (2,) are the weights of the means over the
            first and over the last samples: with them, the mean over the processes is the mean
            over all samples.

        Raises:
            InputError: The processes can't share the batch evenly.
        """
        mine = self.size // processes
        if self.size % processes or -(-self.exact // processes) >= mine:
            raise InputError(
                f"a batch of {self.size} with {self.exact} exact pairs can't be shared by "
                f"{processes} processes; change --batch or --exact"
            )
        rng = random.Random(f"{self.seed}-{step}-{process}")
        side = rng.choices(self.sides, [side**-2 for side in self.sides])[0]
        low, high = self.strokes
        high = max(low, high * side / max(self.sides))
        stroke = math.exp(rng.uniform(math.log(low), math.log(high)))
        pairs = sum(place % processes == process for place in range(self.exact))
        growth = step / self.double_every if self.double_every else math.inf
        styles = round(min(len(self._order), FIRST * 2 ** min(growth, 32)))
        free = [self._free(side, styles, rng) for _ in range(mine - pairs)]
        painted = [self._painted(side, stroke, rng) for _ in range(pairs)]
        photos = [sample[0] for sample in free] + [sample[0] for sample in painted]
        shares = [processes * len(free) / (self.size - self.exact)]
        shares.append(processes * pairs / max(1, self.exact))
        points = torch.stack([s[2] for s in free] + [s[2] for s in painted])
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        noise = torch.randn(points.shape, generator=generator)
        results = [as_images([sample[1]]) for sample in painted]
        return {
            "photo": as_images(photos),
            "style": F.normalize(points + BLUR * noise, dim=1),
            "stroke": torch.tensor([stroke] * len(free) + [sample[3] for sample in painted]),
            "weights": torch.tensor(shares),
            "picture": as_images([sample[1] for sample in free]),
            "picture_key": torch.tensor([sample[4] for sample in free]),
            "face": torch.tensor([sample[3] for sample in free]),
            "result": torch.cat(results) if results else torch.zeros(0, 3, side, side),
            "others": self._points([self._row(rng) for _ in range(OTHERS)]),
            "source": self.prepared.photo_point,
            "seed": torch.tensor(rng.getrandbits(62)),
        }

    def _free(
        self, side: int, styles: int, rng: random.Random
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor, Box, int]:
        """Draw a photo, a style picture, its embedding, a face of the photo, the picture's key.

        Words for a look mean its first picture. With a random one as the target, the network would
        learn the mean of the look, which is a tint.
        """
        name, face = self._photo(rng)
        photo = open_picture(self.data / name)
        row = self._row(rng) if styles == len(self._order) else rng.choice(self._order[:styles])
        look = int(self.prepared.looks[row])
        if look >= 0 and self._in_words(look, rng):
            firsts = self._firsts[: np.searchsorted(self._firsts, styles)]
            row = self._order[rng.choice(firsts)]
            point = self._word(int(self.prepared.looks[row]), rng)
        else:  # numbers below 0 are no looks, but painters in the table of words
            point = self._point(row, look, rng)
        name = self.prepared.styles[row]
        picture = without_bars(open_picture(self.data / name))
        shown = np.asarray(middle_square(picture, STYLE_SIDE))
        crop, face = _crop_around(photo, face, side, PHOTO_ZOOM, rng)
        return crop, shown, point, face, stable_hash(name)

    def _photo(self, rng: random.Random) -> tuple[str, Box]:
        """Draw a photo, and a face in it, as fractions of its width and height."""
        faces = self.prepared.faces
        if not len(faces) or rng.random() >= FACES:
            return rng.choice(self.prepared.photos), NO_FACE
        row, left, top, right, bottom = faces[rng.randrange(len(faces))].tolist()
        return self.prepared.photos[int(row)], (left, top, right, bottom)

    def _point(self, row: int, look: int, rng: random.Random) -> Tensor:
        """Draw an embedding for a style picture: of its views, or of its look."""
        views = self.prepared.points[row].float()
        point = torch.lerp(views[0], views[1], 0.6 * rng.random())
        if look >= 0 and rng.random() < MIXED:
            alike = rng.choices(self._alike[look], k=rng.randint(1, MOST_MIXED - 1))
            point = torch.cat([point[None], self._points(alike)]).mean(0)
        return F.normalize(point, dim=0)

    def _points(self, rows: list[int]) -> Tensor:
        """Return the embeddings (N, E) of whole style pictures."""
        return self.prepared.points[torch.tensor(rows), 0].float()

    def _in_words(self, meant: int, rng: random.Random) -> bool:
        """Draw whether a sample of a look or painter has words, if there are any."""
        return meant in self._words and rng.random() < self.word_share

    def _word(self, meant: int, rng: random.Random) -> Tensor:
        """Draw the embedding of words."""
        return self.prepared.words[rng.choice(self._words[meant])]

    def _row(self, rng: random.Random) -> int:
        """Draw the row of a style picture, by the shares."""
        return min(int(np.searchsorted(self._shares, rng.random())), len(self._shares) - 1)

    def _painted(
        self, side: int, stroke: float, rng: random.Random
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor, float]:
        """Draw a painter's pair, scaled to the requested stroke size as far as possible.

        The last item returned is the actual stroke size: a pair has only 256 × 256 pixels, so it
        can't be reduced at will.
        """
        store = self.prepared.painters
        assert store is not None
        row = rng.choice(self._pairs)
        part = min(SIZE, max(16, round(side / stroke)))
        y, x = rng.randint(0, SIZE - part), rng.randint(0, SIZE - part)
        box = np.s_[y : y + part, x : x + part]
        photo, result = (
            np.asarray(
                Image.fromarray(pixels[row][box]).resize((side, side), Image.Resampling.BICUBIC)
            )
            for pixels in (store.photos, store.results)
        )
        painter = -1 - int(store.numbers[row])
        worded = self._in_words(painter, rng)
        point = self._word(painter, rng) if worded else self.prepared.painted[row]
        return photo, result, point, side / part


def pairs_of(store: PairStore | None, painters: tuple[str, ...]) -> list[int]:
    """List the rows of some painters' pairs; all painters' if none are named.

    Raises:
        InputError: A painter is unknown, or the store has no pairs by those named.
    """
    if store is None:
        return []
    names = [style.name for style in store.styles]
    if unknown := set(painters) - set(names):
        raise InputError(
            f"no exact pairs by {sorted(unknown)[0]!r}; the painters are {', '.join(names)}"
        )
    rows = [
        row for row, number in enumerate(store.numbers) if not painters or names[number] in painters
    ]
    if not rows:
        raise InputError(
            f"no exact pairs by {', '.join(painters)} are prepared; name other painters, or run "
            "`prepare` with more --painters"
        )
    return rows


def _with_words_of_looks(prepared: Prepared, painters: tuple[str, ...]) -> list[str]:
    """List the drawn painters that share words with a look."""
    assert prepared.painters is not None
    of_looks = prepared.words[prepared.meant >= 0]
    drawn = [
        (style.name, prepared.words[prepared.meant == -1 - number])
        for number, style in enumerate(prepared.painters.styles)
        if not painters or style.name in painters
    ]
    return [name for name, words in drawn if (words @ of_looks.T > SAME).any()]


def _by_look(looks: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the rows of the pictures of each look, in order."""
    rows = looks.argsort(kind="stable")
    known, starts = np.unique(looks[rows], return_index=True)
    return dict(zip(known.tolist(), np.split(rows, starts[1:]), strict=True))


def _order(alike: dict[int, NDArray[np.int64]], seed: int) -> NDArray[np.int64]:
    """Order rows such that the first of each look comes first, then the second, and so on."""
    count = sum(map(len, alike.values()))
    places = array("q", range(count))
    random.Random(seed).shuffle(places)
    turns = np.zeros(count, np.int64)
    for look, rows in alike.items():
        if look >= 0:
            turns[rows] = np.arange(len(rows))
    return np.lexsort((np.frombuffer(places, np.int64), turns))


def _crop_around(
    image: Image.Image, face: Box, side: int, zoom: tuple[float, float], rng: random.Random
) -> tuple[NDArray[np.uint8], Box]:
    """Cut a random square of `side` pixels around a face, first scaled to `zoom` times that.

    Returns the face's place in the square, in pixels, too. A face that is too large for the square
    is cut; without one, its place is `NO_FACE`.
    """
    part = min(image.size) / rng.uniform(*zoom)
    low, high = face[:2], face[2:]
    left, top = (
        min(max(0, rng.uniform(size * end - part, size * start)), size - part)
        if face != NO_FACE
        else rng.uniform(0, size - part)
        for size, start, end in zip(image.size, low, high, strict=True)
    )
    box = (left, top, left + part, top + part)
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
    if face == NO_FACE:
        return pixels, face
    scale = side / part
    x0, x1 = (min(max(0.0, scale * (image.width * x - left)), side) for x in face[::2])
    y0, y1 = (min(max(0.0, scale * (image.height * y - top)), side) for y in face[1::2])
    return pixels, (x0, y0, x1, y1)
