"""Options that several commands share, grouped by section; defaults come from `StylizeOptions`."""

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
from clipmamba.styles.request import AUTO, StyleRequest, list_in_one, split_weight
from clipmamba.styles.style_file import check_style_file

PATH = click.Path(path_type=Path)
FORMATS = ("png", "jpg", "webp", "tif", "avif", "heic")

Decorator = Callable[[Any], Any]


class TileSide(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """``auto``, ``off`` or a number of pixels."""

    name = "tile"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | None:
        """Convert to a value of `StylizeOptions.tile`."""
        if value is None or value == "auto" or isinstance(value, int):
            return cast("int | str | None", value)
        if value == "off":
            return None
        return click.INT.convert(value, param, ctx)


class SectionOption(click.Option):
    """An option that help lists under a heading of its own."""

    section = "Options"


class SectionCommand(click.Command):
    """A command whose help lists its options by section, in the order of their first option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a usage error points to this command's own help."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        for name, options in sections(self, ctx).items():
            with formatter.section(name):
                rows = [option.get_help_record(ctx) for option in options]
                formatter.write_dl([row for row in rows if row is not None])


def sections(command: click.Command, context: click.Context) -> dict[str, list[click.Parameter]]:
    """Group a command's options by heading; those without a heading come last."""
    found: dict[str, list[click.Parameter]] = {}
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            found.setdefault(getattr(option, "section", "Options"), []).append(option)
    if "Options" in found:
        found["Options"] = found.pop("Options")
    return found


def section(name: str, *options: tuple[tuple[str, ...], dict[str, Any]]) -> Decorator:
    """Make a decorator that adds options under one heading."""
    kind = type("Option", (SectionOption,), {"section": name})

    def decorate(command: Any) -> Any:
        for names, settings in reversed(options):
            command = click.option(*names, cls=kind, **settings)(command)
        return command

    return decorate


def option(*names: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Describe an option for :func:`section`."""
    return names, settings


def complete_styles(_: click.Context, __: click.Parameter, start: str) -> list[CompletionItem]:
    """Complete the name or alias of a known style, for the shell."""
    names = (name for style in KNOWN_STYLES for name in (style.name, *style.aliases))
    return [CompletionItem(name) for name in names if name.startswith(start.lower())]


PROMPT = option(
    "-p",
    "--prompt",
    metavar="TEXT",
    multiple=True,
    shell_complete=complete_styles,
    help='The style in words. Repeat to mix styles, with weights if you like: "ukiyo-e:0.7".',
)
STYLE = section(
    "Style",
    PROMPT,
    option(
        "--style-image",
        metavar="IMG",
        type=PATH,
        multiple=True,
        help="A picture in the desired style. Repeat, or add prompts, to mix.",
    ),
    option(
        "--style",
        metavar="FILE",
        type=click.Path(),
        multiple=True,
        help="A style file saved by 'clipmamba embed'; FILE:0.5 sets its weight.",
    ),
    option("--avoid", metavar="TEXT", help="A style to move away from, in words."),
    option(
        "--source",
        metavar="TEXT",
        help="What the photo or style picture shows ('a church'); removed from the style. auto: "
        "ask a captioner.",
    ),
    option(
        "--template",
        "templates",
        metavar="TEXT",
        multiple=True,
        help="A template for each prompt, such as 'a poster of {}'. Repeat to average over "
        "several.  [default: seven templates]",
    ),
)
SEED = option(
    "--seed",
    type=int,
    metavar="N",
    help="Random seed: each seed gives another variant; on a CPU, the same seed gives the same "
    "bytes.",
)
COLOR = option(
    "--preserve-color/--no-preserve-color",
    default=StylizeOptions.preserve_color,
    help="Keep the photo's colors, or take the style's. By default, styles without a palette "
    "of their own, such as watercolor, keep most of them.",
)
LOOK = section(
    "Look",
    option(
        "--strength",
        type=float,
        metavar="F",
        default=StylizeOptions.strength,
        show_default=True,
        help=f"0 returns the photo, 1 is the full style, up to {MAX_STRENGTH} exaggerates.",
    ),
    COLOR,
    option(
        "--stroke",
        type=float,
        metavar="F",
        default=StylizeOptions.stroke,
        show_default=True,
        help=f"Stroke size relative to the default, {MIN_STROKE} to {MAX_STROKE:g}.",
    ),
    option(
        "--detail",
        type=float,
        metavar="F",
        default=StylizeOptions.detail,
        help="Level of detail, whatever the photo's size: 1 draws strokes as by default on photos "
        "of 512 pixels and more, 2 half as large, 4 a quarter as large.",
    ),
    option(
        "--no-grain",
        "grain",
        is_flag=True,
        flag_value=False,
        default=StylizeOptions.grain,
        help="Leave out the noise that grain and strokes grow from; empty skies stay smooth.",
    ),
    option(
        "--tile",
        type=TileSide(),
        metavar="auto|off|PX",
        default=StylizeOptions.tile,
        show_default=True,
        help="Process the photo in tiles with sides of this length: less memory, five times the "
        "time. auto: where --detail asks for more than 4 million pixels, or enlarges the photo to "
        "more than 1 million; off: never.",
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
        help="auto (CUDA if available, else the CPU), cpu, cuda, cuda:1, xpu or mps.",
    ),
    option(
        "--model",
        metavar="DIR|NAME",
        help="Use a folder saved by StylizePipeline.save_pretrained, or a model of the Hub such as "
        "user/name@v1, instead of the default weights.",
    ),
)
CAPTIONER = option(
    "--captioner",
    metavar="MODEL",
    help="The captioner for '--source auto': a transformers model, by folder or hub name.  "
    "[default: BLIP]",
)
STYLE_FROM = option(
    "--style-from",
    metavar="MODEL",
    help="Draw a style picture for each prompt, once, and use it in place of the prompt. MODEL is "
    "a text-to-image model for diffusers, by folder or hub name.",
)
MAX_PIXELS_OPTION = option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures with more pixels: a small file can decompress to more than fits in "
    "memory.",
)
OVERWRITE = option("--overwrite", is_flag=True, help="Replace OUT if it exists.")


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
    """Turn the options of :data:`STYLE` into the pipeline's keywords, without opening a picture.

    Raises:
        InputError: A style file can't be used, or ``--source auto`` is given to a command without
            a captioner (``captioned`` is False).
    """
    if source == AUTO and not captioned:
        raise InputError(
            "--source auto works with 'stylize' and 'embed' only; describe the content in words"
        )
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
    """Read the style pictures among the keywords, so that bad ones fail at once."""
    paths = keywords["style_image"] or []
    read = [read_picture(path, max_pixels=max_pixels) for path in paths]
    return {**keywords, "style_image": read or None}


def hint_spelling(prompts: Collection[str]) -> None:
    """Warn about prompts that may be misspelled; they are used all the same."""
    for hint in spelling_hints(prompts):
        click.echo(f"Warning: {hint}", err=True)


def spelling_hints(prompts: Collection[str]) -> Iterator[str]:
    """Yield a hint for each prompt that may be misspelled or hold several styles."""
    for written in prompts:
        if several := list_in_one(written):
            options = " ".join(f'-p "{part}"' for part in several)
            yield f"{written!r} is used as one prompt; to mix styles, use {options}"
    for text, _ in StyleRequest.parse(list(prompts)).prompts if prompts else ():
        words = text.rpartition(":")[0]
        if lookup_style(words):
            rule = "a weight is a number" if split_weight(text)[0] == text else "give one weight"
            yield f"{text!r} is used literally; {rule}, as in '{words}:0.7'"
        meant = misspelt(text)
        if meant is not None:
            yield f"{text!r} is not a known style; used literally. Did you mean {meant!r}?"


def refuse_words_as_files(inputs: Collection[str]) -> None:
    """Point to ``-p`` when a prompt is given where files are expected.

    Raises:
        InputError: An input is not a file but may be a style.
    """
    for text in inputs:
        looks_like_file = "/" in text or "\\" in text or bool(Path(text).suffix)
        if not Path(text).exists() and (lookup_style(text) or not looks_like_file) and text != "-":
            raise InputError(f'no style given; if {text!r} is one, use -p "{text}"')
