"""``clipmamba stylize``."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click

from clipmamba.io import WRITABLE, check_output, read_picture, write_picture
from clipmamba.pipelines.stylize import (
    MAX_STRENGTH,
    StylizePipeline,
    check_device,
    check_model,
    check_request,
)

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("photo", type=_PATH)
@click.option("-p", "--prompt", metavar="TEXT", help="The style in words.")
@click.option("--style-image", metavar="IMG", type=_PATH, help="A picture that shows the style.")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=_PATH,
    help="Where to write (.png .jpg .webp .tif). Default: beside the photo, named after the style.",
)
@click.option(
    "--strength",
    type=float,
    default=1.0,
    show_default=True,
    help=f"0 gives the photo back, 1 the full style, up to {MAX_STRENGTH} exaggerates.",
)
@click.option("--seed", type=int, help="Another seed, another variant; same seed, same bytes.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--model", metavar="DIR", type=_PATH, help="A saved pipeline instead of the default.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def stylize(
    photo: Path,
    prompt: str | None,
    style_image: Path | None,
    output: Path | None,
    strength: float,
    seed: int | None,
    device: str,
    model: Path | None,
    overwrite: bool,
) -> None:
    """Restyle PHOTO and print where the picture was written.

    \b
    clipmamba stylize photo.jpg --prompt "ukiyo-e"
    clipmamba stylize photo.jpg --prompt "pencil sketch" --strength 0.7 -o sketch.png
    clipmamba stylize photo.jpg --style-image painting.jpg
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    # Everything that can be wrong with the request is said before torch takes its seconds.
    check_request(prompt, style_image, strength, seed)
    check_device(device)
    if model is not None:
        check_model(model)
    picture = read_picture(photo)
    style_picture = None if style_image is None else read_picture(style_image)
    if output is None:
        output = default_output(photo, prompt if style_image is None else style_image.stem)
    check_output(output, overwrite=overwrite)

    with plain_warnings():
        with status("loading the model"):
            pipeline = StylizePipeline.from_pretrained(model, device)
        with status(f"restyling {photo.name}"):
            result = pipeline(
                picture, prompt=prompt, style_image=style_picture, strength=strength, seed=seed
            )
        write_picture(result.images[0], output, overwrite=overwrite)
    click.echo(os.fsencode(output))  # bytes: any file name can be printed


def default_output(photo: Path, style: str | None) -> Path:
    """Name the result beside the photo: ``photo.jpg`` and "Ukiyo-e!" give ``photo-ukiyo-e.jpg``."""
    slug = re.sub(r"[\W_]+", "-", (style or "").lower())[:40].strip("-") or "stylized"
    suffix = photo.suffix if photo.suffix.lower() in WRITABLE else ".png"
    return photo.with_name(f"{photo.stem}-{slug}{suffix}")


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Say a warning as one line, without the place in the source that Python puts before it."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo("Warning: " + " ".join(str(message).split()), err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def status(text: str) -> Iterator[None]:
    """Show what is going on, to a person only: on stderr if that is a terminal."""
    shown = sys.stderr.isatty()
    if shown:
        click.echo(f"{text} ...", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
