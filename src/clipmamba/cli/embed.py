"""``clipmamba embed``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from clipmamba.cli.files import slug
from clipmamba.cli.options import (
    CAPTIONER,
    MAX_PIXELS_OPTION,
    MODEL,
    OVERWRITE,
    PATH,
    SEED,
    STYLE,
    STYLE_FROM,
    SectionCommand,
    hint_spelling,
    open_pictures,
    option,
    section,
    style_keywords,
)
from clipmamba.cli.terminal import plain_warnings, say, status
from clipmamba.devices import check_device
from clipmamba.errors import InputError
from clipmamba.files import check_place, one_line
from clipmamba.pipelines.companions import Companions, StyleFinder
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import AUTO, StyleRequest


@click.command(cls=SectionCommand)
@STYLE
@section("Other models", CAPTIONER, STYLE_FROM)
@section(
    "Result",
    SEED,
    option(
        "-o",
        "--output",
        metavar="OUT",
        type=PATH,
        help="The file to write.  [default: named after the style, in the current folder]",
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
    captioner: str | None,
    style_from: str | None,
    device: str,
    model: str | None,
    **style: Any,
) -> None:
    """Save a style made of words and pictures, for 'stylize --style'.

    \b
    clipmamba embed -p "ukiyo-e:0.7" -p "watercolor:0.3" -o mine.safetensors
    clipmamba embed --style-image painting.jpg --source "a church"
    clipmamba embed --style-image painting.jpg --source auto
    clipmamba stylize photo.jpg --style mine.safetensors
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    keywords = style_keywords(**style, captioned=True)
    request = StyleRequest.parse(**keywords)
    label = request.label
    if AUTO in request.sources and not (request.pictures or style_from):
        raise InputError("--source auto describes a style image: add --style-image")
    StylizeOptions(seed=seed)
    check_device(device)
    companions = Companions.of(request, captioner, style_from, device=device)
    if model is not None:
        read_index(model)
    output = output or Path(f"{slug(label)}.safetensors")
    check_place(output, overwrite=overwrite)
    hint_spelling(style["prompt"])
    with plain_warnings():
        keywords = open_pictures(keywords, max_pixels)

        from safetensors import SafetensorError

        with status("loading the model"):
            pipeline = StylizePipeline.from_pretrained(model, device)
        find = StyleFinder(pipeline.prepare, StyleRequest.parse(**keywords), [seed], companions)
        found = find(None, seed)
        if AUTO in request.sources:
            say(f"source: {found.source}", err=True)
        found.style.warn_if_unfamiliar()
        [layer] = found.style.layers
        made = layer.styles[seed]
        try:
            replace(made, embedding=made.embedding.cpu(), label=label).save(output)
        except (OSError, SafetensorError) as error:
            raise InputError(f"can't write {output}: {one_line(error)}") from error
    click.echo(os.fsencode(output))
