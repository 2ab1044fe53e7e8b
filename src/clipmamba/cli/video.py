"""``clipmamba video``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from clipmamba.cli.exits import SOME_FAILED
from clipmamba.cli.options import (
    LOOK,
    MODEL,
    OVERWRITE,
    PATH,
    STYLE,
    SectionCommand,
    hint_spelling,
    open_pictures,
    option,
    section,
    style_keywords,
)
from clipmamba.cli.terminal import plain_warnings, say
from clipmamba.devices import check_device
from clipmamba.io import MAX_PIXELS
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest
from clipmamba.video.options import CODECS, VideoOptions
from clipmamba.video.stylize import check_video_output, stylize_video


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Seconds, or minutes and hours before them: ``90``, ``1:30``, ``0:01:30.5``."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert to seconds."""
        if isinstance(value, int | float):
            return float(value)
        parts = value.split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3 or any(not 0 <= part < 1e9 for part in numbers):
            self.fail(f"{value!r} is not a time; write 90, 1:30 or 0:01:30.5", param, ctx)
        return sum(part * 60.0**power for power, part in enumerate(reversed(numbers)))


class Rate(click.ParamType):  # type: ignore[type-arg]
    """Frames per second: ``25``, ``29.97`` or ``30000/1001``."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        """Convert to a fraction."""
        try:
            return Fraction(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not a rate; write 25, 29.97 or 30000/1001", param, ctx)


_PART = section(
    "Part and size",
    option("--start", type=Seconds(), metavar="TIME", default=VideoOptions.start,
           help="Start at this time of the source: seconds, or 1:30."),
    option("--end", type=Seconds(), metavar="TIME", help="Stop before this time of the source."),
    option("--max-size", type=int, metavar="PX", default=StylizeOptions.max_size,
           help="Longest side of the result; smaller videos are not enlarged."),
    option("--fps", type=Rate(), metavar="N",
           help="Frames per second of the result.  [default: every frame keeps its timestamp]"),
    option("--steady", type=float, metavar="F", default=VideoOptions.steady, show_default=True,
           help="Reduce flicker: share of the style carried over from the previous frame, along "
           "the motion, from 0 to below 1; 0 restyles every frame on its own."),
)  # fmt: skip
_ENCODING = section(
    "Encoding",
    option("--codec", type=click.Choice(list(CODECS)),
           help="Video codec of the result.  [default: h264; vp9 for .webm]"),
    option("--quality", type=int, metavar="CRF",
           help="Constant rate factor: lower means better quality and a larger file.  "
           "[default: 18 for h264, 22 for h265, 28 for vp9 and av1]"),
    option("--no-sound", "sound", is_flag=True, flag_value=False, default=VideoOptions.sound,
           help="Leave the sound out; otherwise it is copied unchanged."),
    OVERWRITE,
)  # fmt: skip


@click.command(cls=SectionCommand)
@click.argument("source_video", metavar="IN", type=PATH)
@click.argument("output", metavar="OUT", type=PATH)
@STYLE
@LOOK
@_PART
@_ENCODING
@MODEL
def video(
    source_video: Path,
    output: Path,
    prompt: tuple[str, ...],
    style_image: tuple[Path, ...],
    style: tuple[str, ...],
    avoid: str | None,
    source: str | None,
    templates: tuple[str, ...],
    overwrite: bool,
    device: str,
    model: str | None,
    **options: Any,
) -> int:
    """Restyle a video, or an animated GIF or WebP, without flicker.

    OUT ends with .mp4, .m4v, .mov, .mkv, .webm, .gif or .webp. It appears when it is complete;
    after Ctrl-C it holds the frames done so far, unless an earlier file would be replaced. Needs:
    pip install 'clipmamba[video]'

    \b
    clipmamba video cat.mp4 cat-ukiyo-e.mp4 -p "ukiyo-e"
    clipmamba video cat.mp4 short.gif -p "watercolor" --start 1:05 --end 1:08 --max-size 320
    clipmamba video cat.mov cat.mkv --style-image painting.jpg --codec h265 --quality 20
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    keywords = style_keywords(prompt, style_image, style, avoid, source, templates)
    StyleRequest.parse(**keywords)
    chosen = {name: options[name] for name in VideoOptions.__dataclass_fields__}
    StylizeOptions(**{name: value for name, value in options.items() if name not in chosen})
    check_video_output(output, VideoOptions(**chosen), overwrite=overwrite)
    check_device(device)
    if model is not None:
        read_index(model)
    hint_spelling(prompt)
    with plain_warnings():
        keywords = open_pictures(keywords, MAX_PIXELS)
        with _progress() as advance:
            report = stylize_video(
                source_video, output, keywords.pop("prompt"), device=device, model=model,
                overwrite=overwrite, callback=advance, **keywords, **options,
            )  # fmt: skip
    if report.broken:
        say(f"{report.frames} frames written, {report.broken} damaged or missing", err=True)
    click.echo(os.fsencode(report.output))
    return SOME_FAILED if report.broken else 0


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with frames per second and the time left, on stderr if it is a terminal."""
    from tqdm import tqdm

    shape = "{percentage:3.0f}%|{bar:30}| {n_fmt}/{total_fmt} frames, {rate_fmt}, {remaining} left"
    shown = sys.stderr.isatty()
    with tqdm(disable=not shown, leave=False, bar_format=shape, unit=" frames") as bar:

        def advance(count: int, total: int | None) -> None:
            bar.total = None if total is None else max(count, total)
            bar.update(count - bar.n)

        yield advance
