"""``clipmamba stylize``: from command-line arguments to a plain batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import click
from PIL.Image import Image

from clipmamba.cli.files import Exist, collect, plan
from clipmamba.cli.options import (
    CAPTIONER,
    FORMATS,
    LOOK,
    MAX_PIXELS_OPTION,
    MODEL,
    PATH,
    STYLE,
    STYLE_FROM,
    SectionCommand,
    hint_spelling,
    open_pictures,
    option,
    refuse_words_as_files,
    section,
    style_keywords,
)
from clipmamba.cli.photos import check_stdout
from clipmamba.cli.run import Batch, rehearse, run
from clipmamba.cli.terminal import plain_warnings
from clipmamba.devices import check_device
from clipmamba.errors import InputError
from clipmamba.io import read_picture
from clipmamba.pipelines.companions import Companions
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.refine import RefineOptions
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest

_PLACES = section(
    "Masks and regions",
    option("--mask", metavar="IMG", type=PATH,
           help="White areas are restyled, black ones keep the photo, gray ones blend."),
    option("--region", metavar="MASK=PROMPT", multiple=True,
           help="Another style where MASK is white. Repeat for more; later ones cover earlier "
           "ones."),
)  # fmt: skip
_PICTURES = section(
    "Pictures",
    option("-o", "--output", metavar="OUT",
           help="A file, a folder (created if missing; file names and subfolders are kept) or - "
           "for standard output.  [default: beside each photo, named after the style]"),
    option("-r", "--recursive", is_flag=True,
           help="Restyle the pictures in folders and their subfolders."),
    option("--variants", type=int, default=StylizeOptions.variants, show_default=True,
           metavar="N", help="Results per photo, with consecutive seeds from --seed (or 0)."),
    option("--max-size", type=int, metavar="PX", default=StylizeOptions.max_size,
           help="Longest side of the results; smaller photos are not enlarged."),
    MAX_PIXELS_OPTION,
    option("--format", "file_format", type=click.Choice(FORMATS),
           help="Format of the results.  [default: that of OUT or of the photo, else png]"),
    option("--quality", type=click.IntRange(1, 100), metavar="1-100",
           help="Encoder quality for JPEG, WebP, AVIF and HEIC.  [default: 95; 90 for AVIF and "
           "HEIC]"),
    option("--keep-metadata", type=click.Choice(["all", "color", "none"]), default="all",
           show_default=True, help="Metadata to keep: all (EXIF, XMP and color profile), the "
           "color profile only, or none."),
    option("--settings/--no-settings", "keep_settings", default=True, show_default=True,
           help="Write prompt, strength, seed and model to the EXIF comment of each result; only "
           "with --keep-metadata all."),
    option("--exist", type=click.Choice(get_args(Exist)), default="error", show_default=True,
           help="What to do if a result exists already: refuse to start, skip it (to resume a "
           "run), or overwrite it."),
    option("--overwrite", is_flag=True, help="Short for --exist overwrite."),
)  # fmt: skip
_COMPANIONS = section(
    "Other models",
    CAPTIONER,
    STYLE_FROM,
    option("--finish", metavar="MODEL[:F]",
           help="Repaint results with an image-to-image model for diffusers, by folder or hub "
           "name, at strength F (0 to 1), keeping the photo's edges.  [default strength: 0.2]"),
)  # fmt: skip
_REFINE = section(
    "Refinement",
    option("--refine", type=int, metavar="STEPS", default=0, show_default=True,
           help="Improve each picture by up to so many steps of an optimization of its own: slow, "
           "60 are usual (docs/refine.md)."),
    option("--refine-clip", metavar="MODEL",
           help="The CLIP that it pleases, a folder or name of open_clip.  [default: the model's "
           "own]"),
)  # fmt: skip
_REPORTS = section(
    "Reports",
    option("--json", "as_json", is_flag=True, help="One JSON object per picture, one per line."),
    option("--dry-run", is_flag=True, help="Show what would be written where, and stop."),
)


_LOOK_KEYWORDS = ("strength", "preserve_color", "stroke", "detail", "grain", "max_size", "tile")


@click.command(cls=SectionCommand)
@click.argument("inputs", nargs=-1, required=True, type=click.Path())
@STYLE
@LOOK
@_PLACES
@_REFINE
@_COMPANIONS
@_PICTURES
@_REPORTS
@MODEL
def stylize(dry_run: bool, **words: Any) -> int:
    """Restyle pictures and print the path of each result.

    INPUTS are files, folders (with -r), quoted patterns such as '*.jpg', or - for standard input.
    Nothing is ever replaced without --overwrite, and a photo that fails does not stop the others.

    \b
    clipmamba stylize photo.jpg -p "ukiyo-e"
    clipmamba stylize photo.jpg -p "ukiyo-e:0.7" -p "watercolor:0.3" --preserve-color
    clipmamba stylize photo.jpg --style-image painting.jpg --strength 0.7 -o print.png
    clipmamba stylize photo.jpg --region sky.png="pastel" --region house.png="woodcut"
    clipmamba stylize photo.jpg --style-image painting.jpg --source auto
    clipmamba stylize photo.jpg -p "watercolor" --variants 4 --max-size 1024
    clipmamba stylize photo.jpg -p "watercolor" --refine 60
    clipmamba stylize -r holidays -p "mosaic" -o mosaics --exist skip
    clipmamba stylize - -p "woodcut" -o - < photo.jpg > woodcut.png
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    batch = make_batch(dry_run=dry_run, **words)
    hint_spelling(batch.words)
    return rehearse(batch) if dry_run else run(batch)


def make_batch(
    inputs: tuple[str, ...],
    prompt: tuple[str, ...],
    style_image: tuple[Path, ...],
    style: tuple[str, ...],
    avoid: str | None,
    source: str | None,
    templates: tuple[str, ...],
    mask: Path | None,
    region: tuple[str, ...],
    refine: int,
    refine_clip: str | None,
    captioner: str | None,
    style_from: str | None,
    finish: str | None,
    output: str | None,
    recursive: bool,
    max_pixels: int,
    file_format: str | None,
    quality: int | None,
    keep_metadata: str,
    keep_settings: bool,
    exist: str,
    overwrite: bool,
    as_json: bool,
    dry_run: bool,
    device: str,
    model: str | None,
    **look: Any,
) -> Batch:
    """Check command-line arguments and read the pictures that the style needs.

    Raises:
        InputError: an argument can't be used.
    """
    # Every error in the request is reported before torch, which takes seconds, is imported.
    options = StylizeOptions(**look)
    refinement = _refinement(refine, refine_clip)
    keywords = style_keywords(prompt, style_image, style, avoid, source, templates, captioned=True)
    regions = [_region(text) for text in region]
    request = _check_request(inputs, keywords, mask, regions)
    check_device(device)
    companions = Companions.of(request, captioner, style_from, finish, device)
    if model is not None:
        read_index(model)
    keep = cast("Exist", "overwrite" if overwrite else exist)
    jobs = plan(
        collect(inputs, recursive=recursive, output=output),
        output,
        label=request.label,
        suffix=None if file_format is None else f".{file_format}",
        exist=keep,
        seeds=[seed or 0 for seed in options.seeds] if options.variants > 1 else options.seeds,
    )
    if jobs[0].target is None:
        check_stdout(as_json=as_json, dry_run=dry_run)
    words = [*prompt, *(wanted for _, wanted in regions)]
    request, masks = _open_request(keywords, mask, regions, max_pixels)
    return Batch(
        jobs=jobs,
        request=request,
        keywords={
            **{name: getattr(options, name) for name in _LOOK_KEYWORDS},
            "finish": companions.finish,
            "refine": refinement or 0,
        },
        companions=companions,
        masks={f"mask {path}": picture for path, picture in masks.items()},
        look=_made_with(options, keywords, mask, regions, companions, refinement),
        words=words,
        device=device,
        model=model,
        exist=keep,
        max_pixels=max_pixels,
        metadata=keep_metadata,
        quality=quality,
        keep_settings=keep_settings,
        stream_format=file_format or "png",
        as_json=as_json,
    )


def _check_request(
    inputs: tuple[str, ...],
    keywords: dict[str, Any],
    mask: Path | None,
    regions: list[tuple[Path, str]],
) -> StyleRequest:
    """Parse the request without opening a picture; refuse a prompt given in place of a file."""
    if not (any(value is not None for value in keywords.values()) or regions):
        refuse_words_as_files(inputs)
    return StyleRequest.parse(**keywords, mask=mask, regions=regions)


def _open_request(
    keywords: dict[str, Any], mask: Path | None, regions: list[tuple[Path, str]], max_pixels: int
) -> tuple[StyleRequest, dict[Path, Image]]:
    """Read the request's pictures; return the request and the masks by path."""
    paths = [*([mask] if mask else []), *(area for area, _ in regions)]
    with plain_warnings():
        keywords = open_pictures(keywords, max_pixels)
        masks = {path: read_picture(path, max_pixels=max_pixels) for path in paths}
    request = StyleRequest.parse(
        **keywords,
        mask=None if mask is None else masks[mask],
        regions=[(masks[area], wanted) for area, wanted in regions],
    )
    return request, masks


def _made_with(
    options: StylizeOptions,
    keywords: dict[str, Any],
    mask: Path | None,
    regions: list[tuple[Path, str]],
    companions: Companions,
    refinement: RefineOptions | None,
) -> dict[str, Any]:
    """Describe the look for a result's EXIF comment; files are named without their folders."""
    always = ("strength", "preserve_color", "stroke", "detail", "grain")
    made = {name: getattr(options, name) for name in always}
    for name in ("avoid", "source", "templates"):
        made[name] = keywords[name]
    for name in ("style_image", "style"):
        made[name] = [Path(file).name for file in keywords[name] or ()]
    made["mask"] = None if mask is None else mask.name
    made["regions"] = [f"{area.name}={words}" for area, words in regions]
    for name in ("captioner", "style_from", "finish"):
        model = getattr(companions, name)
        made[name] = None if model is None else str(model)
    if refinement is not None:
        made["refine"] = refinement.steps
        made["refine_clip"] = refinement.clip and Path(refinement.clip).name
    return {name: value for name, value in made.items() if value or name in always}


def _refinement(steps: int, clip: str | None) -> RefineOptions | None:
    """The settings of a refinement, None without one."""
    if clip is not None and steps == 0:
        raise InputError("--refine-clip does nothing without --refine")
    return RefineOptions.of(RefineOptions(steps=steps, clip=clip))


def _region(text: str) -> tuple[Path, str]:
    """Split MASK=PROMPT; the mask's own name may hold an equals sign."""
    places = [place for place, letter in enumerate(text) if letter == "="]
    place = next((p for p in places if Path(text[:p]).is_file()), places[0] if places else -1)
    mask, words = text[:place], text[place + 1 :]
    if place < 1 or not words.strip():
        raise InputError(f"--region takes MASK=PROMPT, such as sky.png='pastel', not {text!r}")
    return Path(mask), words
