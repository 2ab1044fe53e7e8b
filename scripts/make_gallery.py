"""Make docs/gallery.md: photos in many styles, each with its command.

python scripts/make_gallery.py
"""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image, ImageOps

from clipmamba import StylizePipeline
from clipmamba.cli.files import slug
from clipmamba.evaluate.sheet import strip
from clipmamba.io import read_picture

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


@click.command()
@click.option("--quality", default=80, show_default=True, help="Of the strips.")
def main(quality: int) -> None:
    """Restyle the photos in every style and write page and strips."""
    pipeline = StylizePipeline.from_pretrained()
    files = [f"assets/photos/{name}.jpg" for name in PHOTOS]
    photos = [read_picture(ROOT / file) for file in files]
    folder = ROOT / "docs/gallery"
    folder.mkdir(exist_ok=True)
    page = HEAD.format(count=len(PROMPTS), photos=len(PHOTOS))
    for prompt in PROMPTS:
        results = pipeline(photos, prompt=prompt).images
        cells = [ImageOps.fit(result, CELL, Image.Resampling.LANCZOS) for result in results]
        name = slug(prompt)
        strip(cells).save(folder / f"{name}.jpg", quality=quality, optimize=True)
        page += SECTION.format(prompt=prompt, name=name, photos=" ".join(files))
        click.echo(prompt, err=True)
    (ROOT / "docs/gallery.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
