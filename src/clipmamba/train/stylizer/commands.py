"""The steps of `scripts/train_stylizer.py`: painters, prepare, train, export."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import click
import torch

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.losses.vgg import VggFeatures
from clipmamba.models.second_design import SecondConfig, SecondStylizer
from clipmamba.train.loop import LoopConfig, make_accelerator, train
from clipmamba.train.options import (
    ExistingFolder,
    Folder,
    PoliteGroup,
    data_option,
    dataclass_options,
    loop_options,
)
from clipmamba.train.pictures import read_pictures
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.pairs import painter_pairs, painter_styles, write_store
from clipmamba.train.stylizer.prepared import Prepared, prepare
from clipmamba.train.stylizer.samples import sample_sheet
from clipmamba.train.stylizer.task import LossWeights, StylizerTask

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
    """Choose style pictures, encode them, and paint exact pairs."""
    pictures = [picture for picture in read_pictures(data) if not picture.held_out]
    if painters and not (output / "painters" / "styles.json").is_file():
        photos = [picture for picture in pictures if picture.kind == "photo"]
        pairs = painter_pairs(photos, painters, seed)
        write_store(output / "painters", painter_styles(), pairs, painters)
    prepare(data, pictures, Clip.from_pretrained(clip_name), output, styles, seed)


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
@loop_options(steps=60_000, learning_rate=1e-3, workers=1, sample_every=2000)
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
    stylizer.to(memory_format=torch.channels_last)
    task = StylizerTask(stylizer, VggFeatures(vgg))
    train(
        task,
        StylizerBatches(data, prepared, batch, sides, strokes, exact, config.seed),
        config,
        weights=dataclasses.asdict(weights),
        sample=sample_sheet(data, prepared),
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        stylizer.save_pretrained(config.folder / "stylizer")
