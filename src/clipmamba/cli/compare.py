"""``clipmamba compare``."""

from __future__ import annotations

import os
from pathlib import Path

import click
from PIL import Image

from clipmamba.cli.options import (
    MAX_PIXELS_OPTION,
    OVERWRITE,
    PATH,
    SectionCommand,
    option,
    section,
)
from clipmamba.cli.terminal import plain_warnings
from clipmamba.evaluate.sheet import labelled_sheet
from clipmamba.io import check_output, from_srgb, read_picture, to_srgb, write_picture


@click.command(cls=SectionCommand)
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@section(
    "Result",
    option(
        "-o", "--output", metavar="OUT", type=PATH,
        help="The picture to write.  [default: beside AFTER, named AFTER-compare.png]",
    ),
    option("--max-size", type=click.IntRange(min=16), metavar="PX", default=2048,
           show_default=True, help="Longest side of each picture."),
    MAX_PIXELS_OPTION,
    OVERWRITE,
)  # fmt: skip
def compare(
    before: Path,
    after: Path,
    output: Path | None,
    max_size: int,
    max_pixels: int,
    overwrite: bool,
) -> None:
    """Put two pictures side by side, scaled to the smaller height.

    \b
    clipmamba compare photo.jpg photo-ukiyo-e.jpg -o both.png
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    output = output or after.with_name(f"{after.stem}-compare.png")
    check_output(output, overwrite=overwrite)
    with plain_warnings():
        pair = [
            shown(read_picture(path, max_pixels=max_pixels), max_size) for path in (before, after)
        ]
        height = min(picture.height for picture in pair)
        cells = [
            (
                label,
                picture.resize((max(1, round(picture.width * height / picture.height)), height)),
            )
            for label, picture in zip((before.name, after.name), pair, strict=True)
        ]
        made_of = {"compared": [before.name, after.name]}
        sheet = labelled_sheet(cells, columns=2)
        write_picture(sheet, output, overwrite=overwrite, settings=made_of)
    click.echo(os.fsencode(output))


def shown(picture: Image.Image, max_size: int) -> Image.Image:
    """Convert a picture for the screen: sRGB on white, longest side at most ``max_size`` pixels."""
    pixels, alpha = to_srgb(picture)
    result = Image.new("RGB", picture.size, "white")
    result.paste(from_srgb(pixels), mask=alpha)
    result.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    return result
