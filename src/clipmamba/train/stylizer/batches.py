"""Batches for the stylizer: photos, and what each shall look like."""

from __future__ import annotations

import math
import random
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.train.pictures import open_picture
from clipmamba.train.shards import missing_pictures
from clipmamba.train.stylizer.pairs import SIZE, as_images
from clipmamba.train.stylizer.prepared import Prepared

STYLE_SIDE = 256  # of the square of a style picture, in pixels: about what its file has
PHOTO_ZOOM = (1.0, 2.5)  # a photo's short side, in sides of the crop
STYLE_ZOOM = (1.0, 1.15)  # the same of a style picture
OTHERS = 63  # styles that no photo of a batch is asked for
MIXED = 0.3  # of the style points are means of pictures of one look, as words give them,
MOST_MIXED = 5  # of so many at most
BLUR = 0.01  # deviation of each number of a style point around the picture's own


class StylizerBatches:
    """Batches of photos with style pictures or exact results.

    All samples of a process's step share the side of the crops and the size of the strokes, so
    that style pictures are looked at in one pass.

    Args:
        data: The data folder.
        prepared: What to draw from.
        batch: Samples a step, of all processes together.
        sides: Sides of the crops, each drawn so often that all take about the same time.
        strokes: Smallest and largest size of the strokes at the largest of `sides`; smaller crops
            see strokes in proportion smaller.
        exact: Samples of a step with a painter's exact result.
        seed: Seed of the draw.

    Raises:
        InputError: A side is no multiple of 8, pairs are wanted and there are none, or pictures
            are missing.
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
    ):
        if any(side % 8 or side < 64 for side in sides):
            raise InputError(f"--side must be a multiple of 8 from 64 up, not {sides}")
        if exact and prepared.painters is None:
            raise InputError("--exact wants painters' pairs, and none are prepared")
        missing = missing_pictures(data, chain(prepared.styles, prepared.photos))
        if missing:
            raise InputError(
                f"{data} lacks {len(missing)} prepared pictures, {missing[0]} among them; "
                "name the folder that was prepared, or prepare again"
            )
        self.data, self.prepared = data, prepared
        self.size, self.sides, self.strokes = batch, sides, strokes
        self.exact, self.seed = exact, seed
        self._shares = prepared.shares.double().cumsum(0).numpy()
        self._alike, self._looks = prepared.looks.numpy().argsort(kind="stable"), {}
        found, starts = np.unique(prepared.looks.numpy()[self._alike], return_index=True)
        for look, start, end in zip(found, starts, [*starts[1:], len(self._alike)], strict=True):
            self._looks[int(look)] = range(start, end)  # places in `_alike` of its pictures

    def batch(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        """The tensors of a process's step.

        Returns:
            `photo` (B, 3, S, S) in [0, 1], `style` (B, E), `stroke` (B,), `seed` (), then
            `picture` (B - X, 3, 256, 256), style pictures of the first samples, and `result`
            (X, 3, S, S), exact results of the last X. Strokes are all alike, but for exact results
            that do not reach so far. `others` (63, E) are points of more styles, and `source` (E,)
            is where photos lie. `weights` (2,) are those of the means over the first and over
            the last samples, such that the mean over the processes is that over all samples.

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
        free = [self._free(side, rng) for _ in range(mine - pairs)]
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
            "result": torch.cat(results) if results else torch.zeros(0, 3, side, side),
            "others": self.prepared.points[[self._row(rng) for _ in range(OTHERS)], 0].float(),
            "source": self.prepared.photo_point,
            "seed": torch.tensor(rng.getrandbits(62)),
        }

    def _free(
        self, side: int, rng: random.Random
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor]:
        """A photo, a style picture, and a point between those of its views, or of its look."""
        photo = _crop(self.data / rng.choice(self.prepared.photos), side, PHOTO_ZOOM, rng)
        row = self._row(rng)
        picture = _crop(self.data / self.prepared.styles[row], STYLE_SIDE, STYLE_ZOOM, rng)
        views = self.prepared.points[row].float()
        point = torch.lerp(views[0], views[1], 0.6 * rng.random())
        look = int(self.prepared.looks[row])
        if look >= 0 and rng.random() < MIXED:
            places = rng.choices(self._looks[look], k=rng.randint(1, MOST_MIXED - 1))
            alike = self.prepared.points[self._alike[places], 0].float()
            point = torch.cat([point[None], alike]).mean(0)
        return photo, picture, F.normalize(point, dim=0)

    def _row(self, rng: random.Random) -> int:
        """Of a style picture, by the shares."""
        return min(int(np.searchsorted(self._shares, rng.random())), len(self._shares) - 1)

    def _painted(
        self, side: int, stroke: float, rng: random.Random
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor, float]:
        """A pair of a painter, enlarged or reduced so that its strokes have the size asked for.

        Its last part is the size that they have: a pair of 256 pixels can't be reduced at will.
        """
        store = self.prepared.painters
        assert store is not None
        row = rng.randrange(len(store))
        part = min(SIZE, max(16, round(side / stroke)))
        y, x = rng.randint(0, SIZE - part), rng.randint(0, SIZE - part)
        box = np.s_[y : y + part, x : x + part]
        photo, result = (
            np.asarray(
                Image.fromarray(pixels[row][box]).resize((side, side), Image.Resampling.BICUBIC)
            )
            for pixels in (store.photos, store.results)
        )
        return photo, result, self.prepared.painted[row], side / part


def _crop(
    path: Path, side: int, zoom: tuple[float, float], rng: random.Random
) -> NDArray[np.uint8]:
    """A random square of a picture, whose short side is first made `zoom` times `side`."""
    image = open_picture(path)
    part = min(image.size) / rng.uniform(*zoom)
    left, top = rng.uniform(0, image.width - part), rng.uniform(0, image.height - part)
    box = (left, top, left + part, top + part)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
