"""``clipmamba sheet``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from clipmamba.cli.compare import shown
from clipmamba.cli.options import (
    COLOR,
    MAX_PIXELS_OPTION,
    MODEL,
    OVERWRITE,
    PATH,
    SEED,
    SectionCommand,
    complete_styles,
    hint_spelling,
    option,
    section,
)
from clipmamba.cli.terminal import plain_warnings, progress, status
from clipmamba.devices import check_device
from clipmamba.errors import InputError
from clipmamba.evaluate.sheet import PROMPTS, labelled_sheet
from clipmamba.io import check_output, read_picture, write_picture
from clipmamba.io.memory import memory_errors
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest


@click.command(cls=SectionCommand)
@click.argument("photo", type=PATH)
@section(
    "Styles",
    option(
        "-p",
        "--prompt",
        metavar="TEXT",
        multiple=True,
        shell_complete=complete_styles,
        help="A style in words; repeat for more pictures.  [default: twelve well-known styles]",
    ),
    option(
        "--prompts",
        metavar="FILE",
        type=PATH,
        help="A text file with one style per line; # starts a comment.",
    ),
    option(
        "--strength",
        type=float,
        metavar="F",
        default=StylizeOptions.strength,
        show_default=True,
        help="See 'clipmamba stylize'.",
    ),
    COLOR,
    SEED,
)
@section(
    "Result",
    option(
        "-o",
        "--output",
        metavar="OUT",
        type=PATH,
        help="The picture to write.  [default: beside PHOTO, named PHOTO-sheet.jpg]",
    ),
    option(
        "--columns",
        type=click.IntRange(1, 50),
        metavar="N",
        default=4,
        show_default=True,
        help="Pictures per row.",
    ),
    option(
        "--size",
        type=click.IntRange(32, 4096),
        metavar="PX",
        default=384,
        show_default=True,
        help="Longest side of each picture.",
    ),
    MAX_PIXELS_OPTION,
    OVERWRITE,
)
@MODEL
def sheet(
    photo: Path,
    prompt: tuple[str, ...],
    prompts: Path | None,
    strength: float,
    preserve_color: bool | None,
    seed: int | None,
    output: Path | None,
    columns: int,
    size: int,
    max_pixels: int,
    overwrite: bool,
    device: str,
    model: str | None,
) -> None:
    """Show PHOTO in many styles on one contact sheet.

    Without prompts, twelve well-known styles are shown. The first picture is the photo itself.

    \b
    clipmamba sheet photo.jpg
    clipmamba sheet photo.jpg -p "woodcut" -p "linocut" -p "etching" --columns 2
    clipmamba sheet photo.jpg --prompts styles.txt -o sheet.png
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    wanted = [*prompt, *(_read_prompts(prompts) if prompts else [])] or list(PROMPTS)
    for text in wanted:
        StyleRequest.parse(text)
    look: dict[str, Any] = {"strength": strength, "preserve_color": preserve_color, "seed": seed}
    StylizeOptions(**look)
    check_device(device)
    if model is not None:
        read_index(model)
    output = output or photo.with_name(f"{photo.stem}-sheet.jpg")
    check_output(output, overwrite=overwrite)

    hint_spelling(wanted)
    with plain_warnings():
        small = shown(read_picture(photo, max_pixels=max_pixels), size)
        with status("loading the model"):
            pipeline = StylizePipeline.from_pretrained(model, device)
        cells = [("photo", small)]
        with progress(len(wanted)) as advance:
            for count, text in enumerate(wanted, 1):
                style = pipeline.prepare(StyleRequest.parse(text), [seed])
                style.warn_if_unfamiliar()
                with memory_errors(str(photo), "reduce the sheet's pictures with --size"):
                    made = pipeline(small, style=style, **look).images[0]
                cells.append((text, made))
                advance(count)
        made_of = {"sheet_of": photo.name, "prompts": wanted, **look}
        sheet = labelled_sheet(cells, columns)
        write_picture(sheet, output, overwrite=overwrite, settings=made_of)
    click.echo(os.fsencode(output))


def _read_prompts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"can't read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a text file in UTF-8; give one style per line") from None
    texts = [line.partition("#")[0].strip() for line in lines]
    found = [text for text in texts if text]
    if not found:
        raise InputError(f"{file} lists no styles; give one per line")
    return found
