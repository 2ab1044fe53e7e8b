"""The steps of `scripts/train_stylizer.py`: preview, prepare, train, export."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.evaluate.sheet import contact_sheet
from clipmamba.files import write_json, write_whole
from clipmamba.losses.vgg import VggFeatures
from clipmamba.models import Stylizer
from clipmamba.styles import StylePrior
from clipmamba.train.accelerator import make_accelerator
from clipmamba.train.best import Validation
from clipmamba.train.loop import LoopConfig, train
from clipmamba.train.options import (
    ExistingFile,
    ExistingFolder,
    Folder,
    PoliteGroup,
    data_option,
    dataclass_options,
    loop_options,
)
from clipmamba.train.pictures import (
    Picture,
    chosen_by_look,
    draw_by_look,
    middle_square,
    open_picture,
    read_pictures,
    set_aside,
    split_fingerprint,
    without_bars,
)
from clipmamba.train.shards import has_shards
from clipmamba.train.stylizer.batches import STYLE_SIDE, StylizerBatches
from clipmamba.train.stylizer.listing import draw_styles, list_photos
from clipmamba.train.stylizer.pairs import (
    painter_pairs,
    painter_styles,
    stored_split,
    write_store,
)
from clipmamba.train.stylizer.prepared import PHOTOS, STYLES, Prepared, prepare, prepare_listed
from clipmamba.train.stylizer.preview import preview
from clipmamba.train.stylizer.samples import sample_sheet
from clipmamba.train.stylizer.start import start_stylizer
from clipmamba.train.stylizer.task import LossWeights, StylizerTask
from clipmamba.train.stylizer.validation import mean_losses

VALIDATION = "validation"  # subfolder of a prepared folder, for pictures that are not trained on
VALIDATION_STYLES = 200  # style pictures in it, at most
VALIDATION_BATCHES = 16

prepared_option = click.option(
    "--prepared", "folder", type=ExistingFolder, required=True, help="Output of `prepare`."
)
vgg_option = click.option(
    "--vgg", type=ExistingFile, required=True, help="safetensors file of VGG19 up to relu3_1."
)


@click.group(cls=PoliteGroup)
def main() -> None:
    """Train the stylizer."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command("prepare")
@data_option
@click.option("--clip", "clip_name", default="mini", show_default=True, help="open_clip model.")
@click.option(
    "--prior", "prior_folder", type=ExistingFolder,
    help="Style prior of that CLIP model, to train on the words for a look as well.",
)  # fmt: skip
@click.option(
    "--styles", default=6000, show_default=True, help="Number of style pictures to train on."
)
@click.option(
    "--chosen", type=ExistingFile,
    help="CSV file (look,file) of the style pictures to train on, instead of a random choice.",
)  # fmt: skip
@click.option("--painters", default=3000, show_default=True, help="Number of exact pairs to paint.")
@click.option(
    "--technique", "techniques", type=(str, str), multiple=True, metavar="LOOK PAINTER",
    help="Let the words for LOOK mean PAINTER's exact pairs, not its first picture; repeatable.",
)  # fmt: skip
@click.option(
    "--faces", is_flag=True,
    help="Find the faces of the photos, for the loss --face; needs clipmamba[regions].",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the choice and the pairs.")
@click.option("--output", type=Folder, required=True, help="Folder to write, for `train`.")
def prepare_command(
    data: Path,
    clip_name: str,
    prior_folder: Path | None,
    styles: int,
    chosen: Path | None,
    painters: int,
    techniques: tuple[tuple[str, str], ...],
    faces: bool,
    seed: int,
    output: Path,
) -> None:
    """Choose style pictures, encode them, and paint exact pairs.

    10 % of the pictures are held out for the judge, 2 % of the others set aside for validation.
    """
    if has_shards(data):
        options = {"--chosen": chosen, "--technique": techniques, "--faces": faces}
        for option, value in options.items():
            if value:
                raise InputError(f"{option} is for picture lists; leave it out for shards")
        _prepare_shards(data, clip_name, prior_folder, (styles, painters, seed), output)
        return
    if techniques and prior_folder is None:
        raise InputError("--technique is about words, which need a prior; give --prior")
    learned = [picture for picture in read_pictures(data) if not picture.held_out]
    pictures = [picture for picture in learned if not set_aside(picture)]
    aside = [picture for picture in learned if set_aside(picture)]
    photos = [picture for picture in pictures if picture.kind == "photo"]
    _paint(photos, painters, seed, output)
    clip = Clip.from_pretrained(clip_name)
    prior = None if prior_folder is None else StylePrior.load(prior_folder, clip)
    if {picture.kind for picture in aside} >= {"style", "photo"}:
        drawn = draw_by_look(_styles(aside), VALIDATION_STYLES, seed)
        aside_photos = [picture for picture in aside if picture.kind == "photo"]
        prepare(data, drawn, aside_photos, clip, output / VALIDATION)
    if chosen is not None:
        drawn = chosen_by_look(_styles(pictures), chosen)
    else:
        drawn = draw_by_look(_styles(pictures), styles, seed)
    prepare(data, drawn, photos, clip, output, prior, dict(techniques), faces=faces)


def _prepare_shards(
    data: Path,
    clip_name: str,
    prior_folder: Path | None,
    choice: tuple[int, int, int],
    output: Path,
) -> None:
    """Do the same with shards, in bounded memory.

    Args:
        data: Folder with the shards.
        clip_name: Name of the CLIP model.
        prior_folder: Folder of the style prior.
        choice: Number of styles and of painters' pairs, and the seed.
        output: Folder to write.
    """
    styles, painters, seed = choice
    photos = list_photos(data, output / PHOTOS, "training")
    if not photos:
        raise InputError(f"{data} has no photos to train on; they come in content-*.tar")
    some = photos[:: -(-len(photos) // max(1, painters))]
    _paint([Picture(data / name, "photo", "", (), "") for name in some], painters, seed, output)
    clip = Clip.from_pretrained(clip_name)
    prior = None if prior_folder is None else StylePrior.load(prior_folder, clip)
    aside = output / VALIDATION
    looks, names = draw_styles(data, aside / STYLES, "validation", VALIDATION_STYLES, seed)
    if list_photos(data, aside / PHOTOS, "validation") and len(looks):
        prepare_listed(data, looks, names, clip, aside)
    else:
        shutil.rmtree(aside)
    looks, names = draw_styles(data, output / STYLES, "training", styles, seed)
    prepare_listed(data, looks, names, clip, output, prior)


def _paint(photos: Sequence[Picture], count: int, seed: int, output: Path) -> None:
    """Paint exact pairs of photos, unless `output` has them."""
    split = split_fingerprint(photo.path for photo in photos)
    if count and stored_split(output / "painters") != split:
        pairs = painter_pairs(photos, count, seed)
        write_store(output / "painters", painter_styles(), pairs, count, split)


def _styles(pictures: Sequence[Picture]) -> list[Picture]:
    return [picture for picture in pictures if picture.kind == "style"]


@main.command("train")
@data_option
@prepared_option
@vgg_option
@click.option("--init", type=ExistingFolder, help="Stylizer to start from; by default a new one.")
@click.option("--batch", default=8, show_default=True, help="Samples per step, over all processes.")
@click.option("--exact", default=1, show_default=True, help="How many of them are exact pairs.")
@click.option(
    "--painter", "painters", multiple=True,
    help="Painter whose exact pairs to train on; repeat for several. By default all.",
)  # fmt: skip
@click.option(
    "--side", "sides", multiple=True, type=int, default=(128, 256), show_default=True,
    help="Side of the crops in pixels. If repeated, each step draws one; large ones are rarer.",
)  # fmt: skip
@click.option(
    "--strokes", type=(float, float), default=(0.5, 5.0), show_default=True,
    help="Smallest and largest stroke size in the largest crops.",
)  # fmt: skip
@click.option(
    "--words", type=click.FloatRange(0, 1), default=0.4, show_default=True,
    help="Share of the samples that have words for their look or painter, if any are prepared.",
)  # fmt: skip
@click.option(
    "--double-every",
    default=500,
    show_default=True,
    help="Steps in which the number of style pictures doubles, from 6 to all; 0 for all at once.",
)
@click.option(
    "--mixer", type=click.Choice(["mamba", "attention", "conv"]), help="Mixer of a new stylizer."
)
@click.option("--depth", type=int, help="Blocks of a new stylizer at an eighth of the size.")
@click.option(
    "--anchors", is_flag=True,
    help="Let the words for each look and painter condition the stylizer on their own as well.",
)  # fmt: skip
@dataclass_options(LossWeights)
@loop_options(steps=60_000, learning_rate=1e-3, workers=1, sample_every=2000, validate_every=1000)
def train_command(
    data: Path,
    folder: Path,
    vgg: Path,
    init: Path | None,
    batch: int,
    exact: int,
    painters: tuple[str, ...],
    sides: tuple[int, ...],
    strokes: tuple[float, float],
    words: float,
    double_every: int,
    mixer: str | None,
    depth: int | None,
    anchors: bool,
    weights: LossWeights,
    config: LoopConfig,
) -> None:
    """Train on style pictures, photos and exact pairs."""
    accelerator = make_accelerator(config.precision)
    torch.manual_seed(config.seed)
    prepared = Prepared.load(folder)
    given = {name: value for name, value in {"mixer": mixer, "depth": depth}.items() if value}
    drawn = (painters or None) if exact else ()
    stylizer = start_stylizer(prepared, init, painters=drawn, anchors=anchors, **given)
    networks: dict[str, torch.nn.Module] = {"vgg": VggFeatures(vgg)}
    if weights.directional or weights.contrastive:
        networks["clip"] = Clip.from_pretrained(prepared.clip)
    task = StylizerTask(stylizer, networks, weights)
    train(
        task,
        StylizerBatches(
            data, prepared, batch, sides, strokes, exact, config.seed, double_every, painters, words
        ),
        config,
        weights=dataclasses.asdict(weights),
        sample=sample_sheet(data, prepared),
        validation=_validation(data, prepared, folder / VALIDATION, batch, sides, strokes),
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        stylizer.save_pretrained(config.folder / "stylizer")


def _validation(
    data: Path,
    prepared: Prepared,
    folder: Path,
    batch: int,
    sides: tuple[int, ...],
    strokes: tuple[float, float],
) -> Validation | None:
    """Return the validation on the photos set aside, or None where `prepare` found too few.

    They get the style pictures set aside and, in every other batch, the trained words for looks.
    """
    if not folder.is_dir():
        logging.info("no validation pictures in %s: the best weights are not kept", folder)
        return None
    shown = [aside := Prepared.load(folder)]
    if firsts := prepared.firsts():
        shown.append(
            dataclasses.replace(
                prepared.part(firsts, [], []),
                shares=torch.full((len(firsts),), 1 / len(firsts)),
                photos=aside.photos,
                faces=aside.faces,
            )
        )
    sources = [
        StylizerBatches(data, each, batch, sides, strokes, exact=0, seed=0, words=1.0)
        for each in shown
    ]

    def keep(task: torch.nn.Module, folder: Path) -> None:
        assert isinstance(task, StylizerTask)
        task.stylizer.save_pretrained(folder / "stylizer")

    return Validation(mean_losses(sources, VALIDATION_BATCHES), keep)


@main.command("export")
@click.option(
    "--model", type=ExistingFolder, required=True, help="Stylizer folder, such as RUN/stylizer."
)
@click.option(
    "--prior", "prior_folder", type=ExistingFolder,
    help="Folder of a text-to-style prior; by default the shipped one.",
)  # fmt: skip
@click.option(
    "--output", type=Folder, required=True, help="Folder to write, for `clipmamba stylize --model`."
)
@click.option(
    "--guidance", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
    help="How strongly styles are exaggerated; 1 is as trained.",
)  # fmt: skip
def export_command(model: Path, prior_folder: Path | None, output: Path, guidance: float) -> None:
    """Export a model: a trained stylizer in fp16, its prior, and the name of its CLIP."""
    stylizer = Stylizer.from_pretrained(model)
    clip = Clip.from_pretrained(stylizer.config.clip)
    prior = StylePrior.load(prior_folder, clip)
    if clip.embed_dim != stylizer.config.style_dim:
        raise InputError(
            f"the stylizer in {model} reads style embeddings of {stylizer.config.style_dim} "
            f"numbers, but CLIP {clip.name!r} gives {clip.embed_dim}"
        )
    name = clip.name
    if Path(name).is_dir():  # absolute, so that it is found from any folder
        name = str(Path(name).resolve())
        logging.warning("the CLIP is not part of the model, which loads it from %s", name)
    prior.clip_name = name
    stylizer.config["clip"] = name
    stylizer.half().save_pretrained(output / "stylizer")
    prior.save(output / "prior")
    index = {"_class_name": "StylizePipeline", "clip": name, "guidance": guidance}
    write_json(output / "model_index.json", index)


@main.command("preview")
@click.option(
    "--photo", type=ExistingFile, required=True, help="A photo; its middle square is used."
)
@click.option(
    "--picture", "pictures", type=ExistingFile, multiple=True, required=True,
    help="Style picture; repeat for several.",
)  # fmt: skip
@vgg_option
@click.option(
    "--stroke", type=click.FloatRange(0.25, 5), default=1.0, show_default=True,
    help="Stroke size, as for --strokes of `train`.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1), default=40, show_default=True, help="Optimizer steps."
)
@click.option(
    "--content", default=LossWeights.content, show_default=True, help="Weight of the content loss."
)
@click.option("--calm", default=LossWeights.calm, show_default=True, help="Weight of calm.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True,
    help="Sheet to write: each style picture, and the photo with its texture.",
)  # fmt: skip
def preview_command(
    photo: Path,
    pictures: tuple[Path, ...],
    vgg: Path,
    stroke: float,
    steps: int,
    content: float,
    calm: float,
    output: Path,
) -> None:
    """Show what style pictures can teach at best, before training.

    The pixels of the photo are optimized for the losses of `train`. If the result does not look
    like the style, choose another picture: a network can only come near it.
    """
    features, weights = VggFeatures(vgg), LossWeights(content=content, calm=calm)
    seen = middle_square(open_picture(photo), STYLE_SIDE)
    rows = []
    for name in pictures:
        picture = middle_square(without_bars(open_picture(name)), STYLE_SIDE)
        made, losses = preview(seen, picture, features, weights, stroke, steps)
        values = ", ".join(f"{loss} {value:.3g}" for loss, value in losses.items())
        logging.info("%s: %s", name, values)
        rows.append([picture, made])
    sheet = contact_sheet(rows, ["style picture", "result"])
    with write_whole(output) as part:
        sheet.save(part, format="PNG")
