"""``clipmamba embed``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from clipmamba.cli.files import slug
from clipmamba.cli.options import (
    MAX_PIXELS_OPTION,
    MODEL,
    OVERWRITE,
    PATH,
    SEED,
    STYLE,
    SectionCommand,
    hint_spelling,
    open_pictures,
    option,
    section,
    style_keywords,
)
from clipmamba.cli.terminal import plain_warnings, status
from clipmamba.errors import InputError
from clipmamba.files import check_place, one_line
from clipmamba.pipelines.devices import check_device
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest


@click.command(cls=SectionCommand)
@STYLE
@section(
    "Result",
    SEED,
    option(
        "-o",
        "--output",
        metavar="OUT",
        type=PATH,
        help=("The file to write.  [default: the style's name and .safetensors, here]"),
    ),
    MAX_PIXELS_OPTION,
    OVERWRITE,
)
@MODEL
def embed(
    output: Path | None,
    max_pixels: int,
    overwrite: bool,
    seed: int | None,
    device: str,
    model: str | None,
    **style: Any,
) -> None:
    """Save a style of words and pictures, for 'stylize --style'.

    \b
    clipmamba embed -p "ukiyo-e:0.7" -p "watercolor:0.3" -o mine.safetensors
    clipmamba embed --style-image painting.jpg --source "a church"
    clipmamba stylize photo.jpg --style mine.safetensors
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    keywords = style_keywords(**style)
    label = StyleRequest.parse(**keywords).label
    StylizeOptions(seed=seed)
    check_device(device)
    if model is not None:
        read_index(model)
    output = output or Path(f"{slug(label)}.safetensors")
    check_place(output, overwrite=overwrite)
    hint_spelling(style["prompt"])
    with plain_warnings():
        keywords = open_pictures(keywords, max_pixels)

        from safetensors import SafetensorError

        from clipmamba.styles import Style

        with status("loading the model"):
            pipeline = StylizePipeline.from_pretrained(model, device)
        point = pipeline.encode_style(**keywords, seed=seed)[0]
        try:
            Style(point.cpu(), label, pipeline.clip.name).save(output)
        except (OSError, SafetensorError) as error:
            raise InputError(f"can't write {output}: {one_line(error)}") from error
    click.echo(os.fsencode(output))
