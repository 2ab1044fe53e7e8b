"""The steps of `scripts/train_stylizer.py`: pairs, train, export; adapt for another CLIP."""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from clipmamba.clip import Clip, encode_prompt
from clipmamba.errors import InputError
from clipmamba.evaluate.sheet import PROMPTS, contact_sheet
from clipmamba.models import Stylizer
from clipmamba.models.gamut import into_gamut
from clipmamba.pipelines import StylizePipeline
from clipmamba.styles import StylePrior
from clipmamba.train.distributed import gather_with_gradient
from clipmamba.train.loop import LoopConfig, train
from clipmamba.train.mini.model import keep_depthwise_in_float32
from clipmamba.train.options import (
    ExistingFolder,
    Folder,
    PoliteGroup,
    data_option,
    dataclass_options,
    loop_options,
)
from clipmamba.train.pictures import MEDIA, Picture, draw_by_look, read_pictures
from clipmamba.train.stylizer.pairs import (
    SIZE,
    PairStore,
    StyleEntry,
    StyleStore,
    StylizerBatches,
    as_images,
    load_square,
    painter_pairs,
    painter_styles,
    teacher_pairs,
    write_store,
    write_styles,
)
from clipmamba.train.stylizer.targets import StageStatistics, style_targets
from clipmamba.train.stylizer.task import LossWeights, StylizerTask

WORDS = 7  # texts of a style picture that are asked for
PHOTOS = 256  # of which what photos look like is learnt


@click.group(cls=PoliteGroup)
def main() -> None:
    """Train the stylizer."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
@data_option
@click.option("--output", type=Folder, required=True, help="Gets teacher/, painters/, styles/.")
@click.option("--teacher", default=4000, show_default=True, help="Pairs of the style network.")
@click.option("--painters", default=8000, show_default=True, help="Pairs of the painters.")
@click.option("--styles", default=2400, show_default=True, help="Style pictures without results.")
@click.option("--seed", default=0, show_default=True)
def pairs(data: Path, output: Path, teacher: int, painters: int, styles: int, seed: int) -> None:
    """Make the pairs to learn from."""
    pictures = [picture for picture in read_pictures(data) if not picture.held_out]
    photos = [picture for picture in pictures if picture.kind == "photo"]
    if painters:
        made = painter_pairs(photos, painters, seed)
        write_store(output / "painters", painter_styles(), made, painters)
    shown = [picture for picture in pictures if picture.kind == "style"]
    if teacher:
        drawn = [_entry(*some) for some in draw_by_look(shown, -(-teacher // 2), seed)]
        made = teacher_pairs(photos, drawn, teacher, seed)
        write_store(output / "teacher", drawn, made, teacher)
    if styles:
        drawn = [_entry(*some) for some in draw_by_look(shown, styles, seed + 1)]
        write_styles(output / "styles", drawn)


@main.command("train")
@click.option(
    "--pairs", "pairs_folder", type=ExistingFolder, required=True, help="Output of `pairs`."
)
@click.option(
    "--init", type=ExistingFolder, help="A stylizer to start from; a new one where missing."
)
@click.option("--clip", "clip_name", default="mini", show_default=True, help="open_clip model.")
@click.option(
    "--prior", "prior_folder", type=ExistingFolder, help="Text-to-style prior; the shipped one."
)
@click.option(
    "--mixer",
    type=click.Choice(["mamba", "attention", "conv"]),
    help="Of a new stylizer: mamba where not given; --init brings its own.",
)
@click.option("--bend/--no-bend", default=None, help="Of a new stylizer: bends the scan by style.")
@click.option("--depth", type=int, help="Of a new stylizer: blocks at an eighth of the size.")
@click.option(
    "--least-step", type=float, help="Of the scan: 0.05, or that of --init, where not given."
)
@click.option("--batch", default=8, show_default=True, help="Pairs a step, of all processes.")
@click.option("--teacher-share", default=1, show_default=True, help="Of the teacher's pairs.")
@click.option("--style-share", default=0, show_default=True, help="Of style pictures, no results.")
@click.option("--painter-share", default=3, show_default=True, help="Of the painters' pairs.")
@click.option("--often", multiple=True, help="A painter that is drawn four times as often.")
@click.option("--without", multiple=True, help="A painter that is not drawn.")
@click.option(
    "--side", "sides", multiple=True, default=(128,), show_default=True,
    help="Of the crops, in pixels. Given several times, steps differ; large ones are rare.",
)  # fmt: skip
@click.option("--crops", default=4, show_default=True, help="Crops a picture, patch loss.")
@dataclass_options(LossWeights, distil=1.0, directional=0.3, contrastive=0.1)
@loop_options(steps=5000, learning_rate=1e-3, workers=1, sample_every=1000)
def train_command(
    pairs_folder: Path,
    init: Path | None,
    clip_name: str,
    prior_folder: Path | None,
    mixer: str | None,
    bend: bool | None,
    depth: int | None,
    least_step: float | None,
    batch: int,
    teacher_share: int,
    style_share: int,
    painter_share: int,
    often: tuple[str, ...],
    without: tuple[str, ...],
    sides: tuple[int, ...],
    crops: int,
    weights: LossWeights,
    config: LoopConfig,
) -> None:
    """Train on pairs, with style statistics and CLIP losses as weighted."""
    for side in sides:
        if not 16 <= side <= SIZE or side % 8:
            raise InputError(f"--side must be a multiple of 8 from 16 to {SIZE}, not {side}")
    if init is not None and (mixer, bend, depth) != (None, None, None):
        raise InputError(
            "--mixer, --bend and --depth are for a new stylizer; the one of --init has its own"
        )
    accelerator = Accelerator(mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    clip = Clip.from_pretrained(clip_name)
    prior = StylePrior.load(prior_folder, clip=clip)
    shares = {"teacher": teacher_share, "painters": painter_share}
    used = [name for name in shares if shares[name] and (pairs_folder / name).is_dir()]
    stores: list[PairStore | StyleStore] = [PairStore(pairs_folder / name) for name in used]
    if not stores:
        raise InputError(f"{pairs_folder} holds no pairs; make them with the `pairs` command first")
    if style_share:
        stores.append(StyleStore(pairs_folder / "styles", stores[-1].photos))
    points = [style_points(store, clip, prior) for store in stores]
    source = photo_point(stores, clip)
    options: dict[str, Any] = {
        "mixer": mixer,
        "bend": bend,
        "depth": depth,
        "least_step": least_step,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if init is None:
        stylizer = Stylizer(style_dim=clip.embed_dim, clip=clip_name, **given)
    else:
        stylizer = Stylizer.from_pretrained(init, **given)
        if stylizer.config.style_dim != clip.embed_dim:
            raise InputError(
                f"{init} reads style points of {stylizer.config.style_dim} numbers, "
                f"{clip_name} gives {clip.embed_dim}; name its own model with --clip"
            )
    stylizer.to(memory_format=torch.channels_last)
    clip.to(accelerator.device)
    keep_depthwise_in_float32(clip)
    look, asked = None, None
    if weights.looks:
        look = StageStatistics().to(accelerator.device)
        styles = [style for store in stores for style in store.styles]
        asked = style_targets(styles, stores[0].photos[:PHOTOS], look)

    def shared_out(joint: Sequence[Any]) -> list[Sequence[Any]]:
        sizes = [len(store.styles) for store in stores]
        return [joint[sum(sizes[:n]) :][:size] for n, size in enumerate(sizes)]

    task = StylizerTask(
        stylizer,
        clip,
        source,
        weights,
        look,
        asked.spread if asked else None,
        asked.classifier if asked else None,
        crops=crops,
        gather=functools.partial(gather_with_gradient, accelerator=accelerator),
    )
    source_batches = StylizerBatches(
        stores,
        [*(shares[name] for name in used), *([style_share] if style_share else [])],
        points,
        batch,
        sides,
        config.seed,
        often=often,
        without=without,
        targets=shared_out(asked.statistics) if asked else None,
        looks=shared_out(asked.looks) if asked else None,
    )
    groups: list[dict[str, Any]] | None = None
    if task.discriminator is not None:
        # a slow judge without momentum from before the last strokes: the usual cure for swinging
        judge = {"lr": 0.3 * config.learning_rate, "betas": (0.5, 0.99)}
        groups = [
            {"params": list(stylizer.parameters())},
            {"params": list(task.discriminator.parameters()), **judge},
        ]
    train(
        task,
        source_batches,
        config,
        weights={**dataclasses.asdict(weights), "discriminator": 1.0},
        groups=groups,
        sample=sample_sheet(stores, clip, prior),
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        stylizer.save_pretrained(config.folder / "stylizer")


@main.command()
@click.option("--model", type=ExistingFolder, required=True, help="A stylizer folder.")
@click.option(
    "--prior", "prior_folder", type=ExistingFolder, help="Text-to-style prior; the shipped one."
)
@click.option("--output", type=Folder, required=True, help="For `clipmamba stylize --model`.")
@click.option("--least-step", type=float, help="Of the scan, in place of the trained one.")
@click.option(
    "--guidance",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How far styles are driven apart; 1 as trained.",
)
def export(
    model: Path, prior_folder: Path | None, output: Path, least_step: float | None, guidance: float
) -> None:
    """Join a trained stylizer, in fp16, with its prior and the name of its CLIP."""
    given: dict[str, Any] = {} if least_step is None else {"least_step": least_step}
    stylizer = Stylizer.from_pretrained(model, **given)
    clip = Clip.from_pretrained(stylizer.config["clip"])
    pipeline = StylizePipeline(stylizer, clip, StylePrior.load(prior_folder, clip), guidance)
    stylizer.half()
    pipeline.save_pretrained(output)


@main.command()
@data_option
@click.option("--model", type=ExistingFolder, required=True, help="A stylizer folder.")
@click.option("--old", required=True, help="The CLIP that it reads.")
@click.option("--new", required=True, help="The CLIP that it shall read.")
@click.option("--output", type=Folder, required=True)
@click.option("--pictures", "count", default=3000, show_default=True, help="To compare the two.")
@click.option("--ridge", default=1.0, show_default=True)
def adapt(
    data: Path, model: Path, old: str, new: str, output: Path, count: int, ridge: float
) -> None:
    """Let a stylizer read another CLIP, to be trained on from there.

    A linear map between the two CLIPs' points of the same pictures goes into its first layer.
    """
    stylizer = Stylizer.from_pretrained(model)
    learned = [picture for picture in read_pictures(data) if not picture.held_out]
    learned = random.Random(0).sample(learned, min(count, len(learned)))
    clips = Clip.from_pretrained(old), Clip.from_pretrained(new)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for start in tqdm(range(0, len(learned), 32), desc="pictures", mininterval=10):
        some = [load_square(picture.path, 224) for picture in learned[start : start + 32]]
        images = as_images(some)
        for points, clip in zip(rows, clips, strict=True):
            with torch.no_grad(), torch.autocast(clip.device.type, torch.bfloat16):
                points.append(clip.encode_image(images).cpu())
    before, after = (torch.cat(points) for points in rows)
    square = after.T @ after + ridge * torch.eye(after.shape[1])
    carried = torch.linalg.solve(square, after.T @ before)
    cosine = F.cosine_similarity(after @ carried, before).mean().item()
    logging.info("cosine of the mapped points to the old ones: %.3f", cosine)
    first = stylizer.style.net[0]
    wider = after.shape[1] / before.shape[1]
    first.weight.data = first.weight.data @ carried.T * wider**-0.5  # it scales points by its width
    stylizer.config.update(style_dim=after.shape[1], clip=new)
    stylizer.save_pretrained(output)


def _entry(picture: Picture, look: str) -> StyleEntry:
    phrases = ("{}", "in the style of {}", "{} style")
    own = [phrase.format(look) for phrase in phrases[:2]] if look else []
    told = dict.fromkeys(text.lower() for text in (*own, picture.caption, *picture.texts))
    vague = {phrase.format(medium) for phrase in phrases for medium in ("", *MEDIA)}
    texts = tuple(text for text in told if text not in vague)
    return StyleEntry(picture.path.stem, texts, str(picture.path), look)


@torch.no_grad()
def style_points(store: PairStore | StyleStore, clip: Clip, prior: StylePrior) -> list[Tensor]:
    """For each style of a store, the points (K, E) that mean it.

    A style picture gives its own embedding first. A painter has no picture: it gives some results'
    embeddings. Texts give what the prior makes of them: its mean and a variant.
    """
    prior = prior.cpu()
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(store.numbers.tolist()):
        rows.setdefault(number, []).append(row)
    told = {
        number: store.styles[number].texts[: WORDS if store.styles[number].picture else None]
        for number in rows
    }
    spoken = _prompts(clip, list(dict.fromkeys(text for texts in told.values() for text in texts)))
    shown = [
        (number, row)
        for number, some in rows.items()
        for row in some[: 1 if store.styles[number].picture else 16]
    ]
    found: list[list[Tensor]] = [[] for _ in store.styles]  # none of styles no pair asks for
    for start in tqdm(range(0, len(shown), 16), desc="style points", mininterval=10):
        some = shown[start : start + 16]
        pixels = [
            load_square(store.styles[number].picture, SIZE)
            if store.styles[number].picture
            else store.results[row]
            for number, row in some
        ]
        seen = clip.encode_image(as_images(pixels).to(clip.device)).cpu()
        for (number, _), point in zip(some, seen, strict=True):
            found[number].append(point[None])
    for number, texts in told.items():
        if texts:
            embedded = torch.stack([spoken[text] for text in texts])
            found[number] += [prior(embedded), prior(embedded, seed=number + 1)]
    return [torch.cat(each) if each else torch.empty(0, clip.embed_dim) for each in found]


def _prompts(clip: Clip, texts: Sequence[str]) -> dict[str, Tensor]:
    """The embedding (E,) of each text as a prompt."""
    found: dict[str, Tensor] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captions may be longer than the context
        for start in tqdm(range(0, len(texts), 64), desc="words", mininterval=10):
            some = texts[start : start + 64]
            found |= zip(some, encode_prompt(clip, some).cpu(), strict=True)
    return found


@torch.no_grad()
def photo_point(stores: Sequence[PairStore | StyleStore], clip: Clip, count: int = 256) -> Tensor:
    """Where photos lie: the unit mean (E,) of some photos' embeddings."""
    photos = [stores[0].photos[row] for row in range(min(count, len(stores[0])))]
    images = as_images(photos)
    return F.normalize(clip.encode_image(images.to(clip.device)).mean(0), dim=0).cpu()


def sample_sheet(
    stores: Sequence[PairStore | StyleStore], clip: Clip, prior: StylePrior, count: int = 4
) -> Callable[[nn.Module, Path], None]:
    """A callback that draws `count` photos in the README's styles."""
    photos = [stores[0].photos[row * 97 % len(stores[0])] for row in range(count)]
    images = as_images(photos)

    @torch.no_grad()
    def sample(task: nn.Module, folder: Path) -> None:
        stylizer: Any = task.stylizer
        device = next(stylizer.parameters()).device
        rows: list[list[Image.Image]] = [[] for _ in range(count)]
        for prompt in PROMPTS:
            point = prior.cpu()(encode_prompt(clip, [prompt]).cpu())
            out = stylizer(images.to(device), point.expand(count, -1).to(device))
            out = into_gamut(out.float()) * 255
            pixels = out.round().byte().permute(0, 2, 3, 1).cpu().numpy()
            for row, picture in zip(rows, pixels, strict=True):
                row.append(Image.fromarray(picture))
        for row, photo in zip(rows, photos, strict=True):
            row.insert(0, Image.fromarray(photo))
        contact_sheet(rows, ["photo", *PROMPTS]).save(folder / "sheet.png")

    return sample
