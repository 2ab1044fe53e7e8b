"""``clipmamba stylize``: from command-line arguments to a plain batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import click
from PIL.Image import Image

from clipmamba.cli.batch import Batch
from clipmamba.cli.files import Exist, collect, plan
from clipmamba.cli.options import (
    CAPTIONER,
    FORMATS,
    LOOK,
    MAX_PIXELS_OPTION,
    MODEL,
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
from clipmamba.cli.places import Area, Places
from clipmamba.cli.run import rehearse, run
from clipmamba.cli.terminal import plain_warnings
from clipmamba.devices import check_device
from clipmamba.errors import InputError
from clipmamba.io import read_picture
from clipmamba.pipelines.companions import Companions
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.parts import part_names
from clipmamba.pipelines.refine import RefineOptions
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import FACES, StyleRequest

_PLACES = section(
    "Masks and regions",
    option("--mask", metavar="AREA", multiple=True,
           help="Where the photo is restyled: a picture (white areas are restyled, black ones keep "
           "the photo, gray ones blend), or words for a part: sky, face, person, background. "
           "Repeat to join several."),
    option("--region", metavar="AREA=PROMPT", multiple=True,
           help="Another style for a mask or a part, such as \"sky=starry night\". Repeat for "
           "more; later ones cover earlier ones."),
    option("--keep", metavar="AREA", multiple=True,
           help="A mask or a part where the photo is kept, whatever covers it. Repeat for more."),
    option("--faces", type=click.Choice(list(FACES)), default="style", show_default=True,
           help="Keep the photo in faces, soften the style there by half, or style them."),
    option("--segmenter", metavar="MODEL",
           help="Find parts by any words with CLIPSeg or another transformers segmenter, a folder "
           "or Hub name."),
    option("--show-mask", is_flag=True,
           help="Write what words have found beside each result, as RESULT.sky.png. Edited, it can "
           "be used as a mask."),
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
           "name, at strength F (above 0, at most 1), keeping the photo's edges.  "
           "[default strength: 0.2]"),
)  # fmt: skip
_REFINE = section(
    "Refinement",
    option("--refine", type=int, metavar="STEPS", default=0, show_default=True,
           help="Optimize each picture with CLIP losses for at most this many steps; slow, try 60 "
           "(docs/refine.md)."),
    option("--refine-clip", metavar="MODEL",
           help="CLIP model of these losses, an open_clip folder or name.  [default: the model's "
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
    clipmamba stylize photo.jpg --region "sky=starry night" --keep face
    clipmamba stylize photo.jpg -p "watercolor" --mask background --faces keep
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
    mask: tuple[str, ...],
    region: tuple[str, ...],
    keep: tuple[str, ...],
    faces: str,
    segmenter: str | None,
    show_mask: bool,
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
    places = Places.of(mask, region, keep, faces)
    request = _check_request(inputs, keywords, places)
    check_device(device)
    companions = Companions.of(request, captioner, style_from, finish, device, segmenter)
    if model is not None:
        read_index(model)
    policy = cast("Exist", "overwrite" if overwrite else exist)
    seeds = [seed or 0 for seed in options.seeds] if options.variants > 1 else options.seeds
    suffix = None if file_format is None else f".{file_format}"
    found = collect(inputs, recursive=recursive, output=output)
    names = part_names(request.parts, segmenter=segmenter is not None)
    masks = list(dict.fromkeys(names.values())) if show_mask else []
    if show_mask and not masks:
        raise InputError(
            "--show-mask writes what words have found, and there are none; add, for example, "
            "--mask sky"
        )
    jobs = plan(
        found, output, label=request.label, suffix=suffix, exist=policy, seeds=seeds, masks=masks,
        read=[Path(file) for _, file in request.files],
    )  # fmt: skip
    if jobs[0].target is None:
        check_stdout(as_json=as_json, dry_run=dry_run, show_mask=show_mask)
    request, areas = _open_request(keywords, places, max_pixels)
    return Batch(
        jobs=jobs,
        request=request,
        keywords={
            **{name: getattr(options, name) for name in _LOOK_KEYWORDS},
            "finish": companions.finish,
            "refine": refinement or 0,
        },
        companions=companions,
        masks={f"mask {path}": picture for path, picture in areas.items()},
        look=_made_with(options, keywords, places, companions, refinement),
        words=[*prompt, *(wanted for _, wanted in places.regions)],
        device=device,
        model=model,
        exist=policy,
        max_pixels=max_pixels,
        metadata=keep_metadata,
        quality=quality,
        keep_settings=keep_settings,
        stream_format=file_format or "png",
        as_json=as_json,
    )


def _check_request(
    inputs: tuple[str, ...], keywords: dict[str, Any], places: Places
) -> StyleRequest:
    """Parse the request without opening a picture; refuse a prompt given in place of a file."""
    if not (any(value is not None for value in keywords.values()) or places.regions):
        refuse_words_as_files(inputs)
    return places.request(keywords, lambda area: area)


def _open_request(
    keywords: dict[str, Any], places: Places, max_pixels: int
) -> tuple[StyleRequest, dict[Path, Image]]:
    """Read the request's pictures; return the request and the masks by path."""
    masks: dict[Path, Image] = {}

    def opened(area: Area) -> Area | Image:
        if isinstance(area, Path) and area not in masks:
            masks[area] = read_picture(area, max_pixels=max_pixels)
        return masks[area] if isinstance(area, Path) else area

    with plain_warnings():
        keywords = open_pictures(keywords, max_pixels)
        request = places.request(keywords, opened)
    return request, masks


def _made_with(
    options: StylizeOptions,
    keywords: dict[str, Any],
    places: Places,
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
    made |= places.settings
    for name in ("captioner", "style_from", "finish", "segmenter"):
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
