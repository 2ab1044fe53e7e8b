"""``clipmamba export``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipmamba.cli.options import (
    MAX_PIXELS_OPTION,
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
from clipmamba.files import check_place
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest

if TYPE_CHECKING:
    from clipmamba.styles import Style


@click.command(cls=SectionCommand)
@click.argument("output", type=PATH)
@STYLE
@section("Result", SEED, MAX_PIXELS_OPTION, OVERWRITE)
@section(
    "Model",
    option(
        "--model",
        metavar="DIR|NAME",
        help="Use a folder saved by StylizePipeline.save_pretrained, or a model of the Hub such as "
        "user/name@v1, instead of the default weights.",
    ),
)
def export(
    output: Path,
    seed: int | None,
    max_pixels: int,
    overwrite: bool,
    model: str | None,
    **style: Any,
) -> None:
    """Export the network to OUTPUT.onnx, for apps without Python.

    With a style, the file restyles in that style only and takes a photo and noise. Without one, it
    takes a style embedding too, as saved by 'clipmamba embed'. Height, width and batch size are
    dynamic. docs/export.md shows how to run it. Needs: pip install 'clipmamba[export]'

    \b
    clipmamba export stylizer.onnx
    clipmamba export ukiyo-e.onnx --prompt "ukiyo-e"
    clipmamba export mine.onnx --style mine.safetensors --overwrite
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    keywords = style_keywords(**style)
    with_style = any(value is not None for value in keywords.values())
    if with_style:
        StyleRequest.parse(**keywords)
    elif seed is not None:
        raise InputError("--seed has no effect without a style: add --prompt")
    StylizeOptions(seed=seed)
    if model is not None:
        read_index(model)
    if output.suffix.lower() != ".onnx":
        raise InputError(f"OUTPUT needs the extension .onnx, as in {output.stem}.onnx")
    check_place(output, overwrite=overwrite)
    _check_packages()
    hint_spelling(style["prompt"])

    from clipmamba.models.onnx_file import write_onnx

    with plain_warnings():
        keywords = open_pictures(keywords, max_pixels)
        with status("loading the model"):
            pipeline = StylizePipeline.from_pretrained(model, "cpu")
        made, point, metadata = None, None, {}
        if with_style:
            resolved = pipeline.prepare(StyleRequest.parse(**keywords), [seed])
            resolved.warn_if_unfamiliar()
            [layer] = resolved.layers
            made = layer.styles[seed]
            point = made.embedding[None]
            metadata = {name: f"{share:g}" for name, share in made.traits._asdict().items()}
        with status("tracing the network, about a minute"):
            lines = write_onnx(pipeline.network, output, point, metadata=metadata)
    click.echo(os.fsencode(output))
    for line in lines:
        click.echo(f"  {line}")
    if made is not None:
        for note in _left_to_the_app(made):
            click.echo(f"  {note}: see docs/export.md")


def _left_to_the_app(style: Style) -> Iterator[str]:
    if style.photo_color:
        share = f"{style.photo_color:g}"
        yield f"The style keeps {share} of the photo's colors, which the app has to mix in"
    if style.has_blocks:
        yield "The style has square blocks, which the app has to make"


def _check_packages() -> None:
    from importlib.util import find_spec

    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise InputError(f"export needs {package}: pip install 'clipmamba[export]'")
