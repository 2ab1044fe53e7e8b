"""Contrastive training of `mini` on picture-text pairs.

The image tower's first blocks are frozen, so their output is computed once per view of a picture
and cached on disk; a step then costs a fraction of a full pass.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.model import CLIP
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from clipmamba.files import flush, write_whole
from clipmamba.losses.terms import Term
from clipmamba.train.mini import model as mini
from clipmamba.train.mini.looks import everyday, look_of
from clipmamba.train.pictures import MOVEMENTS, Picture, open_picture

SIZE: int = mini.MODEL_CONFIG["vision_cfg"]["image_size"]
SMOOTHING = 0.1  # of labels, against overfitting
EVERYDAY = 0.4  # share of the texts that are everyday names of a look
_NUMBERS = {name: number for number, name in enumerate(MOVEMENTS)}
_NAMED = ("{}", "{} painting", "a {} painting", "{} style", "in the style of {}", "{} art")
STATISTICS = (
    2 * mini.MAPS[mini.TEXTURE_BLOCKS][0] + 9
)  # means and standard deviations of maps and RGB, RGB correlations


def center_view(image: Image.Image) -> Image.Image:
    """Resize the short side to `SIZE` pixels and crop the center, as `mini` preprocesses."""
    scale = SIZE / min(image.size)
    size = (max(SIZE, round(image.width * scale)), max(SIZE, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return image.crop((left, top, left + SIZE, top + SIZE))


def crop_view(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cut a random square of 50 to 100 % of the short side, and resize it to `SIZE` pixels."""
    side = round(min(image.size) * rng.uniform(0.5, 1.0))
    left = rng.randint(0, image.width - side)
    top = rng.randint(0, image.height - side)
    box = (left, top, left + side, top + side)
    return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)


@dataclasses.dataclass(frozen=True)
class Features:
    """Output of the frozen blocks for the views of P pictures.

    Attributes:
        maps: Features of the V views, (V, C, H, W), grouped by picture; in memory or memory-mapped.
        first: First row of each picture and, at the end, V: (P + 1,).
        statistics: Style statistics of the center views, (P, 105).
    """

    maps: NDArray[np.float16]
    first: NDArray[np.int64]
    statistics: Tensor

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Pickle a mapped file's name instead of its data: a worker process maps it itself."""
        mapped = isinstance(self.maps, np.memmap)
        maps = self.maps.filename if isinstance(self.maps, np.memmap) else self.maps
        return _features, (maps, self.first, self.statistics, mapped)


def _features(maps: Any, first: NDArray[np.int64], statistics: Tensor, mapped: bool) -> Features:
    return Features(np.load(maps, mmap_mode="r") if mapped else maps, first, statistics)


def compute_features(
    model: CLIP,
    pictures: Sequence[Picture],
    file: Path,
    seed: int,
    views: int = 2,
    compiled: bool = False,
    blocks: int = mini.FROZEN_BLOCKS,
) -> Features:
    """Compute the frozen features of a center view and random views of each picture.

    They are cached beside `file`, under a name with a fingerprint of the frozen weights, pictures,
    seed and number of views.

    Args:
        model: A `mini`.
        pictures: The pictures, in the order of the result.
        file: File name of the cache, without the fingerprint.
        seed: Seed of the random views.
        views: Views of each style picture, including the center view; other pictures have only
            the center view.
        compiled: Let `torch.compile` fuse the blocks: five times as fast on a CPU, but needs a C++
            compiler.
        blocks: Number of frozen blocks, of the image tower's seven: 3 to 6.
    """
    names = (picture.path.name for picture in pictures)
    key = fingerprint([str(seed), str(views), _frozen_weights(model, blocks), *names])
    file = file.with_stem(f"{file.stem}-{key}")
    counts = [views if picture.kind == "style" else 1 for picture in pictures]
    first = np.cumsum([0, *counts])
    statistics_file = file.with_suffix(".statistics.npy")
    if statistics_file.is_file():  # written last: the features are complete
        maps = np.load(file, mmap_mode="r")
        return Features(maps, first, torch.from_numpy(np.load(statistics_file)))
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (int(first[-1]), *mini.MAPS[blocks])
    store = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    statistics = torch.empty(len(pictures), STATISTICS)
    model.eval()
    encode = mini.frozen_features
    if compiled:
        encode = torch.compile(encode, options={"freezing": True})

    def look(index: int) -> NDArray[np.uint8]:
        image = open_picture(pictures[index].path)
        rng = random.Random(f"{seed}-{pictures[index].path.name}")
        others = [crop_view(image, rng) for _ in range(counts[index] - 1)]
        return np.stack([np.asarray(view) for view in (center_view(image), *others)])

    group = 8  # small batches stay in the cache of the processor
    with ThreadPoolExecutor(1) as pool, torch.no_grad():
        for start in tqdm(range(0, len(pictures), 64), desc="features", mininterval=20):
            indices = range(start, min(start + 64, len(pictures)))
            shown = np.concatenate(list(pool.map(look, indices)))
            centers = first[start : start + len(indices)] - first[start]
            texture = torch.empty(len(shown), STATISTICS)
            for row in range(0, len(shown), group):
                part = shown[row : row + group]
                images = torch.zeros(group, *part.shape[1:])  # one shape, compiled once
                images[: len(part)] = torch.from_numpy(part).float() / 255
                images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    maps, shallow = encode(model, images, blocks)
                place = slice(first[start] + row, first[start] + row + len(part))
                store[place] = maps[: len(part)].half().numpy()
                texture[row : row + len(part)] = style_statistics(shallow.float(), images)[
                    : len(part)
                ]
            statistics[start : start + len(indices)] = texture[centers]
    store.flush()
    flush(file)
    with write_whole(statistics_file) as whole:
        np.save(whole, statistics.numpy())
    return Features(store, first, statistics)


def _frozen_weights(model: CLIP, blocks: int) -> str:
    """Return a fingerprint of the blocks whose output is cached."""
    trunk = model.visual.trunk
    frozen = (trunk.conv_stem, trunk.bn1, *trunk.blocks[:blocks])
    return fingerprint(
        hashlib.blake2b(value.numpy().tobytes()).hexdigest()
        for block in frozen
        for value in block.state_dict().values()
    )


def fingerprint(texts: Iterable[str]) -> str:
    """Return a fingerprint of texts in their order, 16 hexadecimal digits, to name caches by."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()


def style_statistics(features: Tensor, images: Tensor) -> Tensor:
    """Return the texture and palette statistics (B, 105) that an embedding should predict."""
    pixels = images.flatten(2)
    spread = pixels.std(2) + 1e-3
    centered = (pixels - pixels.mean(2, keepdim=True)) / spread[..., None]
    correlation = centered @ centered.transpose(1, 2) / pixels.shape[2]
    upper = torch.stack([correlation[:, 0, 1], correlation[:, 0, 2], correlation[:, 1, 2]], 1)
    maps = features.flatten(2)
    return torch.cat([maps.mean(2), maps.std(2), pixels.mean(2), spread, upper], dim=1)


def pick_text(picture: Picture, rng: random.Random) -> str:
    """Draw one of a picture's texts."""
    whole = rng.random() < 0.3 or not picture.texts
    return picture.caption if whole else rng.choice(picture.texts)


def misspell(text: str, rng: random.Random) -> str:
    """Misspell a text: drop its hyphens or one letter, or swap two adjacent letters."""
    if "-" in text and rng.random() < 0.6:
        return text.replace("-", rng.choice(["", " "]))
    places = [match.start() for match in re.finditer(r"(?<=\w)\w\w", text)]
    if not places:
        return text
    at = rng.choice(places)
    if rng.random() < 0.5:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


class PairBatches:
    """Batches of picture-text pairs, in which rare looks are more frequent, and of phrases.

    Args:
        pictures: The training pictures.
        features: Their frozen features.
        phrases: Token ids of the distillation phrases, (Q, T).
        targets: Target unit embeddings of the phrases, (Q, D).
        batch: Pictures per step, over all processes.
        seed: Seed of the draw.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        features: Features,
        phrases: Tensor,
        targets: Tensor,
        batch: int,
        seed: int,
    ):
        self.pictures, self.features = pictures, features
        self.phrases, self.targets = phrases, targets
        self.size, self.seed = batch, seed
        mean, deviation = features.statistics.mean(0), features.statistics.std(0)
        self.statistics = (features.statistics - mean) / (deviation + 1e-3)
        self.looks = [look_of(picture) for picture in pictures]
        families = [
            look.name if look else picture.family
            for picture, look in zip(pictures, self.looks, strict=True)
        ]
        count = Counter(families)
        self.weights = torch.tensor(
            [_share(p) * count[f] ** -0.4 for p, f in zip(pictures, families, strict=True)]
        )

    def batch(self, step: int, process: int, processes: int) -> dict[str, Any]:
        """Return the tensors of a process for a step.

        Returns:
            `features` (B, C, H, W) with `statistics` (B, 105); `tokens` (B, T) of one text per
            picture; `applies` (B, B), whether a text (column) describes a picture (row);
            `movement` (B,), -1 for none, and `movement_tokens` (M, T) of the movements' names; and
            distillation `phrases` with their `targets`.
        """
        rng = random.Random(f"{self.seed}-{step}-{process}")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        size = self.size // processes
        index = torch.multinomial(self.weights, size, replacement=False, generator=generator)
        chosen = [self.pictures[i] for i in index.tolist()]
        looks = [self.looks[i] for i in index.tolist()]
        texts, named = [], []  # a text, and the look that it is an everyday name of
        for picture, look in zip(chosen, looks, strict=True):
            named.append(look if look and rng.random() < EVERYDAY else None)
            spoken = named[-1]
            texts.append(everyday(spoken, rng) if spoken else pick_text(picture, rng))
        known = [{picture.caption, *picture.texts} for picture in chosen]
        applies = torch.tensor(
            [
                [
                    look is says if says else text in own
                    for text, says in zip(texts, named, strict=True)
                ]
                for own, look in zip(known, looks, strict=True)
            ]
        )
        views = torch.from_numpy(np.stack([self._view(i, rng) for i in index.tolist()]))
        flip = torch.rand(size, generator=generator) < 0.5
        views[flip] = views[flip].flip(-1)
        typed = [misspell(text, rng) if rng.random() < 0.1 else text for text in texts]
        remember = torch.randint(len(self.phrases), (size // 2,), generator=generator)
        return {
            "features": views,
            "statistics": self.statistics[index],
            "tokens": mini.tokenize([text.lower() for text in typed]),
            "applies": applies,
            "movement": torch.tensor([_NUMBERS.get(picture.movement, -1) for picture in chosen]),
            "movement_tokens": mini.tokenize([rng.choice(_NAMED).format(m) for m in MOVEMENTS]),
            "phrases": self.phrases[remember],
            "targets": self.targets[remember],
        }

    def _view(self, index: int, rng: random.Random) -> NDArray[np.float16]:
        first, end = self.features.first[index : index + 2].tolist()
        view: NDArray[np.float16] = self.features.maps[rng.randrange(first, end)]
        return view


def _share(picture: Picture) -> float:
    """Return how often a picture is drawn: real paintings more, objects and painted photos less.

    Many pictures of rare looks are black and white; they are drawn less, so that these looks do
    not come to mean gray.
    """
    share = 3.0 if picture.movement else {"pair": 0.5, "painted": 0.6}.get(picture.kind, 1.0)
    return share / 2 if re.search(r"black|b&w|monochrome", picture.caption.lower()) else share


class PairTask(nn.Module):
    """Contrastive training, with style statistics predicted from embeddings and distillation.

    Args:
        model: A `mini` whose text tower was distilled.
        dropout: Dropout rate of the pooled features, in [0, 1).
        blocks: Number of frozen blocks, of the image tower's seven.
    """

    def __init__(self, model: CLIP, dropout: float = 0.2, blocks: int = mini.FROZEN_BLOCKS):
        super().__init__()
        self.blocks = blocks
        self.model = model
        self.to_statistics = nn.Linear(mini.MODEL_CONFIG["embed_dim"], STATISTICS)
        model.visual.trunk.drop_rate = dropout
        mini.keep_depthwise_in_float32(model.visual)
        mini.freeze_first_blocks(model, blocks)

    def train(self, mode: bool = True) -> PairTask:
        """Set the mode, but keep the frozen blocks in eval mode."""
        super().train(mode)
        mini.freeze_first_blocks(self.model, self.blocks)
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of a batch of `PairBatches`."""
        features = batch["features"].float().contiguous(memory_format=torch.channels_last)
        image = F.normalize(mini.encode_features(self.model, features).float(), dim=-1)
        scale = self.model.logit_scale.exp().clamp(max=100)
        step = PairStep(batch, image, scale, self.encode_tokens, self.to_statistics)
        return {term.name: term.function(step) for term in TERMS}

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Map token ids (B, T) to unit embeddings (B, D) in float32."""
        return F.normalize(mini.encode_tokens(self.model, tokens).float(), dim=-1)


class PairStep(NamedTuple):
    """The inputs of the losses: a batch of `PairBatches` and the model's outputs."""

    batch: dict[str, Tensor]
    image: Tensor
    """Unit embeddings of the pictures, (B, D)."""
    scale: Tensor
    """Factor of the cosines."""
    encode_tokens: Callable[[Tensor], Tensor]
    to_statistics: Callable[[Tensor], Tensor]


def _contrastive(step: PairStep) -> Tensor:
    # two Monets are not negatives for each other's "impressionism" (Khosla et al., "Supervised
    # Contrastive Learning", 2020)
    applies = step.batch["applies"].float()
    logits = step.scale * step.image @ step.encode_tokens(step.batch["tokens"]).T
    by_row, by_column = (F.normalize(target, p=1, dim=1) for target in (applies, applies.T))
    return (_cross_entropy(logits, by_row) + _cross_entropy(logits.T, by_column)) / 2


def _movement(step: PairStep) -> Tensor:
    names = step.encode_tokens(step.batch["movement_tokens"])
    known = step.batch["movement"] >= 0
    logits = (step.scale * step.image @ names.T)[known]
    return _cross_entropy(logits, step.batch["movement"][known], "sum") / known.sum().clamp(min=1)


def _statistics(step: PairStep) -> Tensor:
    predicted = step.to_statistics(step.image * step.image.shape[1] ** 0.5)
    return F.smooth_l1_loss(predicted, step.batch["statistics"])


def _distill(step: PairStep) -> Tensor:
    remembered = step.encode_tokens(step.batch["phrases"])
    return 1 - (remembered * step.batch["targets"].float()).sum(-1).mean()


TERMS: tuple[Term[PairStep], ...] = (
    Term("contrastive", _contrastive),
    Term("movement", _movement, applies_to="pictures of a known movement"),
    Term("statistics", _statistics),
    Term("distill", _distill, applies_to="phrases"),
)
"""The losses of `mini`'s second stage."""


def _cross_entropy(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(logits, target, reduction=reduction, label_smoothing=SMOOTHING)
