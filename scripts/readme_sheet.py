"""Make the README's pictures with the default weights: assets/strip.jpg and assets/sheet.jpg.

python scripts/readme_sheet.py
"""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image, ImageOps

from clipmamba import StylizePipeline
from clipmamba.evaluate.sheet import PROMPTS, contact_sheet
from clipmamba.io import read_picture

ASSETS = Path(__file__).parents[1] / "assets"
STRIP_PHOTO = "pagoda"
STRIP_PROMPTS = ("ukiyo-e", "watercolor", "stained glass")
STRIP_WIDTH = 400
QUALITY = 85
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--model", metavar="DIR", type=FOLDER, help="A saved pipeline, not the default.")
@click.option("--photos", metavar="DIR", default=ASSETS / "photos", type=FOLDER)
@click.option("--output", metavar="DIR", default=ASSETS, type=FOLDER)
@click.option("--cell", default=224, show_default=True, help="Side of the sheet's squares.")
@click.option("--seed", type=int, help="Another variant of every style.")
def main(model: Path | None, photos: Path, output: Path, cell: int, seed: int | None) -> None:
    """Restyle every photo in every style; the sheet shows center crops."""
    originals = {path.stem: read_picture(path) for path in sorted(photos.glob("*.jpg"))}
    if STRIP_PHOTO not in originals:
        raise click.UsageError(f"{photos} has no {STRIP_PHOTO}.jpg, which the strip shows")
    pipeline = StylizePipeline.from_pretrained(model)
    styled: dict[str, dict[str, Image.Image]] = {name: {} for name in originals}
    for prompt in PROMPTS:
        results = pipeline([*originals.values()], prompt=prompt, seed=seed).images
        for name, picture in zip(originals, results, strict=True):
            styled[name][prompt] = picture
        click.echo(prompt, err=True)

    rows = [
        [ImageOps.fit(picture, (cell, cell)) for picture in (originals[name], *row.values())]
        for name, row in styled.items()
    ]
    save(contact_sheet(rows, ["photo", *PROMPTS]), output / "sheet.jpg")

    photo = originals[STRIP_PHOTO]
    size = (STRIP_WIDTH, round(STRIP_WIDTH * photo.height / photo.width))
    strip = [photo, *(styled[STRIP_PHOTO][prompt] for prompt in STRIP_PROMPTS)]
    strip = [picture.resize(size, Image.Resampling.LANCZOS) for picture in strip]
    save(contact_sheet([strip], ["photo", *STRIP_PROMPTS]), output / "strip.jpg")


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG file and print its name and size."""
    picture.save(path, quality=QUALITY, optimize=True, progressive=True)
    click.echo(f"{path} {picture.width}x{picture.height}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
