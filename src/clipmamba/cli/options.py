"""Options that several commands share, in sections; defaults come from `StylizeOptions`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from clipmamba.errors import InputError
from clipmamba.io import MAX_PIXELS, read_picture
from clipmamba.pipelines.options import MAX_STRENGTH, MAX_STROKE, MIN_STROKE, StylizeOptions
from clipmamba.styles.known import KNOWN_STYLES, lookup_style, misspelt
from clipmamba.styles.request import AUTO, StyleRequest, list_in_one
from clipmamba.styles.style_file import check_style_file

PATH = click.Path(path_type=Path)
FORMATS = ("png", "jpg", "webp", "tif", "avif", "heic")

Decorator = Callable[[Any], Any]


class TileSide(click.ParamType[int | str | None]):
    """``auto``, ``off`` or a number of pixels."""

    name = "tile"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | None:
        """Give what `StylizeOptions.tile` takes."""
        if value is None or value == "auto" or isinstance(value, int):
            return cast("int | str | None", value)
        if value == "off":
            return None
        return click.INT.convert(value, param, ctx)


class SectionOption(click.Option):
    """An option that is listed under a heading of its own."""

    section = "Options"


class SectionCommand(click.Command):
    """A command whose help lists its options by section, in the order of their first option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a usage error knows this command's own help."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        for name, options in sections(self, ctx).items():
            with formatter.section(name):
                rows = [option.get_help_record(ctx) for option in options]
                formatter.write_dl([row for row in rows if row is not None])


def sections(command: click.Command, context: click.Context) -> dict[str, list[click.Parameter]]:
    """A command's options by heading; the plain ones come last."""
    found: dict[str, list[click.Parameter]] = {}
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            found.setdefault(getattr(option, "section", "Options"), []).append(option)
    if "Options" in found:
        found["Options"] = found.pop("Options")
    return found


def section(name: str, *options: tuple[tuple[str, ...], dict[str, Any]]) -> Decorator:
    """A decorator that adds options under one heading."""
    kind = type("Option", (SectionOption,), {"section": name})

    def decorate(command: Any) -> Any:
        for names, settings in reversed(options):
            command = click.option(*names, cls=kind, **settings)(command)
        return command

    return decorate


def option(*names: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """An option for :func:`section`."""
    return names, settings


def _complete_styles(_: click.Context, __: click.Parameter, start: str) -> list[CompletionItem]:
    names = (name for style in KNOWN_STYLES for name in (style.name, *style.aliases))
    return [CompletionItem(name) for name in names if name.startswith(start.lower())]


PROMPT = option(
    "-p",
    "--prompt",
    metavar="TEXT",
    multiple=True,
    shell_complete=_complete_styles,
    help='The style in words; repeat it to mix, with weights if you like: "ukiyo-e:0.7".',
)
STYLE = section(
    "Style",
    PROMPT,
    option(
        "--style-image",
        metavar="IMG",
        type=PATH,
        multiple=True,
        help="A picture that shows the style; repeat it, or add words, to mix.",
    ),
    option(
        "--style",
        metavar="FILE",
        type=click.Path(),
        multiple=True,
        help="A style saved by 'clipmamba embed'; FILE:0.5 gives it a weight.",
    ),
    option("--avoid", metavar="TEXT", help="Words that the style is moved away from."),
    option(
        "--source",
        metavar="TEXT",
        help="What the photo or style picture shows ('a church'); removed from the style. auto: "
        "what a captioner says.",
    ),
    option(
        "--template",
        "templates",
        metavar="TEXT",
        multiple=True,
        help="A sentence around each prompt, as in 'a poster of {}'; repeat it for the mean of "
        "several.  [default: seven of them]",
    ),
)
SEED = option(
    "--seed",
    type=int,
    metavar="N",
    help="Another seed, another variant; the same seed gives the same bytes on a CPU.",
)
LOOK = section(
    "Look",
    option(
        "--strength",
        type=float,
        metavar="F",
        default=StylizeOptions.strength,
        show_default=True,
        help=f"0 gives the photo back, 1 the full style, up to {MAX_STRENGTH} exaggerates.",
    ),
    option("--preserve-color", is_flag=True, help="Keep the photo's colors."),
    option(
        "--stroke",
        type=float,
        metavar="F",
        default=StylizeOptions.stroke,
        show_default=True,
        help=f"Size of strokes beside the usual, {MIN_STROKE} to {MAX_STROKE:g}.",
    ),
    option(
        "--detail",
        type=float,
        metavar="F",
        default=StylizeOptions.detail,
        help="Size of strokes, whatever the photo's: 1 as on a picture of 1024 pixels, 2 half as "
        "large, 0.5 twice.  [default: native stroke size, in pixels]",
    ),
    option(
        "--no-grain",
        "grain",
        is_flag=True,
        flag_value=False,
        default=StylizeOptions.grain,
        help="Leave out the noise that grain and strokes grow from: empty skies stay calm.",
    ),
    option(
        "--tile",
        type=TileSide(),
        metavar="auto|off|PX",
        default=StylizeOptions.tile,
        show_default=True,
        help="Work on the photo in tiles of this side: less memory. auto: for more than 4 million "
        "pixels; off: always whole.",
    ),
    SEED,
)
MODEL = section(
    "Model",
    option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto (CUDA if there is one, else the CPU), cpu, cuda, cuda:1 or mps.",
    ),
    option(
        "--model",
        metavar="DIR|NAME",
        help="A folder from StylizePipeline.save_pretrained, or a name on the hub such as "
        "user/name@v1, instead of the default weights; a folder wins.",
    ),
)
CAPTIONER = option(
    "--captioner",
    metavar="MODEL",
    help="Who says it for '--source auto': a folder or hub name of transformers.  [default: BLIP]",
)
STYLE_FROM = option(
    "--style-from",
    metavar="MODEL",
    help="A text-to-image model of diffusers, a folder or hub name: it draws the style picture "
    "for the prompts, once, and that is used in their place.",
)
MAX_PIXELS_OPTION = option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures with more: a small file can decompress to more than fits in memory.",
)
OVERWRITE = option("--overwrite", is_flag=True, help="Replace OUT if it is there.")


def style_keywords(
    prompt: tuple[str, ...],
    style_image: tuple[Path, ...],
    style: tuple[str, ...],
    avoid: str | None,
    source: str | None,
    templates: tuple[str, ...],
    *,
    captioned: bool = False,
) -> dict[str, Any]:
    """The options of :data:`STYLE` as the pipeline's keywords, no picture opened yet.

    Raises:
        InputError: A style file can't be used; or a captioner is asked for where ``captioned`` is
            False, that is, where none is.
    """
    if source == AUTO and not captioned:
        raise InputError("--source auto is for 'stylize' and 'embed'; say what is shown in words")
    if style:
        for file, _ in StyleRequest.parse(style=list(style)).styles:
            check_style_file(str(file))
    return {
        "prompt": list(prompt) or None,
        "style_image": list(style_image) or None,
        "style": list(style) or None,
        "avoid": avoid,
        "source": source,
        "templates": list(templates) or None,
    }


def open_pictures(keywords: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """The same with the style pictures read; what is wrong with them is said at once."""
    paths = keywords["style_image"] or []
    read = [read_picture(path, max_pixels=max_pixels) for path in paths]
    return {**keywords, "style_image": read or None}


def hint_spelling(prompts: Collection[str]) -> None:
    """Ask about words that may mean something else; they are a prompt all the same."""
    for hint in spelling_hints(prompts):
        click.echo(f"Warning: {hint}", err=True)


def spelling_hints(prompts: Collection[str]) -> Iterator[str]:
    """Remarks on words that may mean something else."""
    for written in prompts:
        if several := list_in_one(written):
            options = " ".join(f'-p "{part}"' for part in several)
            yield f"{written!r} is one prompt; to mix, use {options}"
    for text, _ in StyleRequest.parse(list(prompts)).prompts if prompts else ():
        meant = misspelt(text)
        if meant is not None:
            yield f"{text!r} is not a known style; used literally. Did you mean {meant!r}?"


def refuse_words_as_files(inputs: Collection[str]) -> None:
    """Name the option for words that stand where files are expected.

    Raises:
        InputError: One of the inputs is no file but may be a style.
    """
    for text in inputs:
        looks_like_file = "/" in text or "\\" in text or bool(Path(text).suffix)
        if not Path(text).exists() and (lookup_style(text) or not looks_like_file) and text != "-":
            raise InputError(f'no style given; is {text!r} one? Use -p "{text}"')
