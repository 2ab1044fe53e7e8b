"""The steps of `scripts/train_stylizer.py`: prepare, train, export."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.files import write_json
from clipmamba.losses.vgg import VggFeatures
from clipmamba.models.second_design import SecondConfig, SecondStylizer
from clipmamba.styles import StylePrior
from clipmamba.train.accelerator import make_accelerator
from clipmamba.train.best import Validation
from clipmamba.train.loop import LoopConfig, train
from clipmamba.train.options import (
    ExistingFolder,
    Folder,
    PoliteGroup,
    data_option,
    dataclass_options,
    loop_options,
)
from clipmamba.train.pictures import Picture, read_pictures, set_aside, split_fingerprint
from clipmamba.train.shards import has_shards
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.pairs import (
    painter_pairs,
    painter_styles,
    stored_split,
    write_store,
)
from clipmamba.train.stylizer.prepared import Prepared, list_photos, prepare, prepare_shards
from clipmamba.train.stylizer.samples import sample_sheet
from clipmamba.train.stylizer.task import LossWeights, StylizerTask
from clipmamba.train.stylizer.validation import mean_losses

VALIDATION = "validation"  # folder in a prepared one, of pictures that are not trained on
VALIDATION_STYLES = 200  # style pictures in it, at most
VALIDATION_BATCHES = 16

prepared_option = click.option(
    "--prepared", "folder", type=ExistingFolder, required=True, help="Output of `prepare`."
)


@click.group(cls=PoliteGroup)
def main() -> None:
    """Train the stylizer."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command("prepare")
@data_option
@click.option("--clip", "clip_name", default="mini", show_default=True, help="open_clip model.")
@click.option("--styles", default=6000, show_default=True, help="Style pictures to learn from.")
@click.option("--painters", default=3000, show_default=True, help="Exact pairs to paint.")
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=Folder, required=True)
def prepare_command(
    data: Path, clip_name: str, styles: int, painters: int, seed: int, output: Path
) -> None:
    """Choose style pictures, encode them, and paint exact pairs.

    A fiftieth of the pictures is set aside for validation, a tenth is held out for the judge.
    """
    if has_shards(data):
        _prepare_shards(data, clip_name, styles, painters, seed, output)
        return
    learned = [picture for picture in read_pictures(data) if not picture.held_out]
    pictures = [picture for picture in learned if not set_aside(picture)]
    aside = [picture for picture in learned if set_aside(picture)]
    photos = [picture for picture in pictures if picture.kind == "photo"]
    _paint(photos, painters, seed, output)
    clip = Clip.from_pretrained(clip_name)
    if {picture.kind for picture in aside} >= {"style", "photo"}:
        prepare(data, aside, clip, output / VALIDATION, VALIDATION_STYLES, seed)
    prepare(data, pictures, clip, output, styles, seed)


def _paint(photos: Sequence[Picture], count: int, seed: int, output: Path) -> None:
    """Exact pairs of photos, unless they are there."""
    split = split_fingerprint(photo.path for photo in photos)
    if count and stored_split(output / "painters") != split:
        pairs = painter_pairs(photos, count, seed)
        write_store(output / "painters", painter_styles(), pairs, count, split)


def _prepare_shards(
    data: Path, clip_name: str, styles: int, painters: int, seed: int, output: Path
) -> None:
    """The same from shards."""
    photos = list_photos(data, output, "training")
    some = photos[:: max(1, len(photos) // max(1, painters))]
    _paint([Picture(data / name, "photo", "", (), "") for name in some], painters, seed, output)
    clip = Clip.from_pretrained(clip_name)
    prepare_shards(data, clip, output, styles, seed, "training")
    aside = output / VALIDATION
    if list_photos(data, aside, "validation"):
        prepare_shards(data, clip, aside, VALIDATION_STYLES, seed, "validation")


@main.command("train")
@data_option
@prepared_option
@click.option(
    "--vgg", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="safetensors file of VGG19 up to relu3_1.",
)  # fmt: skip
@click.option("--init", type=ExistingFolder, help="A stylizer to start from; else a new one.")
@click.option("--batch", default=8, show_default=True, help="Samples a step, of all processes.")
@click.option("--exact", default=1, show_default=True, help="Of them with an exact result.")
@click.option(
    "--side", "sides", multiple=True, type=int, default=(128, 256), show_default=True,
    help="Of the crops, in pixels. Given several times, steps differ; large ones are rare.",
)  # fmt: skip
@click.option(
    "--strokes", type=(float, float), default=(0.5, 5.0), show_default=True,
    help="Smallest and largest size of strokes in the largest crops.",
)  # fmt: skip
@click.option(
    "--mixer", type=click.Choice(["mamba", "attention", "conv"]), help="Of a new stylizer."
)
@click.option("--depth", type=int, help="Of a new stylizer: blocks at an eighth of the size.")
@dataclass_options(LossWeights)
@loop_options(steps=60_000, learning_rate=1e-3, workers=1, sample_every=2000, validate_every=1000)
def train_command(
    data: Path,
    folder: Path,
    vgg: Path,
    init: Path | None,
    batch: int,
    exact: int,
    sides: tuple[int, ...],
    strokes: tuple[float, float],
    mixer: str | None,
    depth: int | None,
    weights: LossWeights,
    config: LoopConfig,
) -> None:
    """Train on style pictures, photos and exact pairs."""
    accelerator = make_accelerator(config.precision)
    torch.manual_seed(config.seed)
    prepared = Prepared.load(folder)
    given = {name: value for name, value in {"mixer": mixer, "depth": depth}.items() if value}
    if init is None:
        wanted = SecondConfig(style_dim=prepared.points.shape[2], clip=prepared.clip, **given)  # type: ignore[arg-type]
        stylizer = SecondStylizer(wanted)
    elif given:
        raise InputError("--mixer and --depth are for a new stylizer; that of --init has its own")
    else:
        stylizer = SecondStylizer.from_pretrained(init)
    if stylizer.config.clip != prepared.clip:
        raise InputError(
            f"the stylizer of --init reads style points of CLIP {stylizer.config.clip!r}, "
            f"{folder} has those of {prepared.clip!r}; prepare with --clip {stylizer.config.clip}"
        )
    stylizer.to(memory_format=torch.channels_last)
    networks: dict[str, torch.nn.Module] = {"vgg": VggFeatures(vgg)}
    if weights.directional or weights.contrastive:
        networks["clip"] = Clip.from_pretrained(prepared.clip)
    task = StylizerTask(stylizer, networks, weights)
    train(
        task,
        StylizerBatches(data, prepared, batch, sides, strokes, exact, config.seed),
        config,
        weights=dataclasses.asdict(weights),
        sample=sample_sheet(data, prepared),
        validation=_validation(data, folder / VALIDATION, batch, sides, strokes),
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        stylizer.save_pretrained(config.folder / "stylizer")


def _validation(
    data: Path, folder: Path, batch: int, sides: tuple[int, ...], strokes: tuple[float, float]
) -> Validation | None:
    """What measures a task on the pictures set aside, where `prepare` found enough of them."""
    if not folder.is_dir():
        logging.info("no pictures are set aside in %s: the best weights are not kept", folder)
        return None
    batches = StylizerBatches(data, Prepared.load(folder), batch, sides, strokes, exact=0, seed=0)

    def keep(task: torch.nn.Module, folder: Path) -> None:
        assert isinstance(task, StylizerTask)
        task.stylizer.save_pretrained(folder / "stylizer")

    return Validation(mean_losses(batches, VALIDATION_BATCHES), keep)


@main.command("export")
@click.option(
    "--model", type=ExistingFolder, required=True, help="A stylizer folder, such as RUN/stylizer."
)
@click.option(
    "--prior", "prior_folder", type=ExistingFolder, help="Text-to-style prior; the shipped one."
)
@click.option("--output", type=Folder, required=True, help="For `clipmamba stylize --model`.")
@click.option(
    "--guidance", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
    help="How far styles are driven apart; 1 as trained.",
)  # fmt: skip
def export_command(model: Path, prior_folder: Path | None, output: Path, guidance: float) -> None:
    """Join a trained stylizer, in fp16, with its prior and the name of its CLIP."""
    stylizer = SecondStylizer.from_pretrained(model)
    clip = Clip.from_pretrained(stylizer.config.clip)
    prior = StylePrior.load(prior_folder, clip)
    if clip.embed_dim != stylizer.config.style_dim:
        raise InputError(
            f"the stylizer in {model} reads style points of {stylizer.config.style_dim} numbers, "
            f"CLIP {clip.name!r} gives {clip.embed_dim}"
        )
    name = clip.name
    if Path(name).is_dir():  # found from wherever the model is used
        name = str(Path(name).resolve())
        logging.warning("the model needs its CLIP, which stays in %s", name)
    prior.clip_name = name
    stylizer.config = dataclasses.replace(stylizer.config, clip=name)
    stylizer.half().save_pretrained(output / "stylizer")
    prior.save(output / "prior")
    index = {"_class_name": "StylizePipeline", "clip": name, "guidance": guidance}
    write_json(output / "model_index.json", index)
