"""Make docs/gallery.md: photos in many styles, stroke sizes, and details of a large photo.

python scripts/make_gallery.py --large PHOTO

PHOTO has at least 3000 pixels on its longest side; the shipped pages show picosdeeuropa of Debian's
lomiri-wallpapers-16.04, the original of assets/photos/mountains.jpg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
from PIL import Image, ImageOps

from clipmamba import StylizePipeline
from clipmamba.cli.files import slug
from clipmamba.evaluate.sheet import strip
from clipmamba.io import read_picture

Save = Callable[[Sequence[Image.Image], str], None]
ROOT = Path(__file__).parents[1]
PHOTOS = ("pagoda", "astronaut", "cat", "mountains")
CELL = (288, 216)
PROMPTS = (
    "ukiyo-e", "woodcut", "linocut", "engraving", "pencil sketch", "charcoal drawing",
    "sumi-e ink wash", "chalk on a blackboard", "watercolor", "impressionist oil painting",
    "van Gogh", "pointillism", "pop art", "comic book", "halftone newspaper print", "risograph",
    "mosaic", "stained glass", "pixel art", "cross-stitch", "made of wool", "blueprint",
    "cold blue night", "gold leaf",
)  # fmt: skip
STROKES = (0.5, 1.0, 2.0)
STROKE_PROMPTS = ("van Gogh", "mosaic", "watercolor", "pencil sketch")
LARGE_PROMPTS = ("van Gogh", "mosaic", "ukiyo-e", "pencil sketch")
LARGE = 3000  # pixels on the longest side of the large photo, at least
DETAIL = (576, 432)  # pixels of a detail, at 1:1
WHERE = (0.55, 0.45)  # its center in the photo
HEAD = """\
# Gallery

{count} prompts on {photos} photos of `assets/photos`, with the default weights and options: no
seeds were chosen, and weak results are included. Each strip shows the results of one command,
center-cropped and reduced. Made by `scripts/make_gallery.py`.
"""
SECTION = """
## {prompt}

![{prompt}](gallery/{name}.jpg)

```sh
clipmamba stylize {photos} -p "{prompt}" -o {name}/
```
"""
STROKE_HEAD = """
## Stroke sizes

One photo with `--stroke` 0.5, 1 and 2.
"""
STROKE_SECTION = """
### {prompt}

![{prompt}](gallery/{name}.jpg)

```sh
clipmamba stylize {photo} -p "{prompt}" --stroke 2 -o {name}.jpg
```
"""
LARGE_HEAD = """
## A large photo at 1:1

Details of a photo of {width} × {height} pixels, not reduced: {prompts}.
The network works at 512 pixels and its picture is enlarged, so at 1:1 strokes are large and soft.
Photo: "Picos de Europa" by Aitzol Berasategi, CC BY 4.0.
"""


@click.command()
@click.option(
    "--large", type=click.Path(exists=True, dir_okay=False), required=True, help="A large photo."
)
@click.option("--quality", default=80, show_default=True, help="Of the strips.")
def main(large: str, quality: int) -> None:
    """Restyle the photos in every style and write page and strips."""
    photo = read_picture(large)
    if max(photo.size) < LARGE:
        raise click.BadParameter(f"{large} must have {LARGE} pixels on its longest side")
    pipeline = StylizePipeline.from_pretrained()
    folder = ROOT / "docs/gallery"
    folder.mkdir(exist_ok=True)

    def save(cells: Sequence[Image.Image], name: str) -> None:
        strip(cells).save(folder / f"{name}.jpg", quality=quality, optimize=True)
        click.echo(name, err=True)

    page = styles(pipeline, save) + strokes(pipeline, save) + details(pipeline, photo, save)
    (ROOT / "docs/gallery.md").write_text(page, encoding="utf-8")


def styles(pipeline: StylizePipeline, save: Save) -> str:
    """Restyle the photos in every style; return the first part of the page."""
    files = [f"assets/photos/{name}.jpg" for name in PHOTOS]
    photos = [read_picture(ROOT / file) for file in files]
    page = HEAD.format(count=len(PROMPTS), photos=len(PHOTOS))
    for prompt in PROMPTS:
        save([_cell(result) for result in pipeline(photos, prompt=prompt).images], slug(prompt))
        page += SECTION.format(prompt=prompt, name=slug(prompt), photos=" ".join(files))
    return page


def strokes(pipeline: StylizePipeline, save: Save) -> str:
    """Restyle one photo with strokes of several sizes; return this part of the page."""
    file = f"assets/photos/{PHOTOS[0]}.jpg"
    photo = read_picture(ROOT / file)
    page = STROKE_HEAD
    for prompt in STROKE_PROMPTS:
        name = f"strokes-{slug(prompt)}"
        results = [pipeline(photo, prompt=prompt, stroke=s).images[0] for s in STROKES]
        save([_cell(result) for result in results], name)
        page += STROKE_SECTION.format(prompt=prompt, name=name, photo=file)
    return page


def details(pipeline: StylizePipeline, photo: Image.Image, save: Save) -> str:
    """Restyle a large photo and cut details; return this part of the page."""
    left, top = (
        round(place * side - part / 2)
        for place, side, part in zip(WHERE, photo.size, DETAIL, strict=True)
    )
    box = (left, top, left + DETAIL[0], top + DETAIL[1])
    cells = [pipeline(photo, prompt=prompt).images[0].crop(box) for prompt in LARGE_PROMPTS]
    page = LARGE_HEAD.format(
        width=photo.width, height=photo.height, prompts=", ".join(LARGE_PROMPTS)
    )
    for number, start in enumerate(range(0, len(cells), 2), 1):
        save(cells[start : start + 2], f"large-{number}")
        page += f"\n![details at 1:1](gallery/large-{number}.jpg)\n"
    return page


def _cell(picture: Image.Image) -> Image.Image:
    return ImageOps.fit(picture, CELL, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
