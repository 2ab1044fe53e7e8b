"""Write a labeled contact sheet of the procedural painters.

python scripts/painter_sheet.py photo1.jpg photo2.jpg --out sheets/painters.png
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from clipmamba.train.painters import PAINTERS
from clipmamba.train.painters.brushes.tone import Array


def load(path: Path, side: int, square: bool) -> Array:
    """Read a photo as float32 (H, W, 3) in [0, 1], with a short side of `side` pixels."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if square:
        image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    else:
        ratio = side / min(image.size)
        size = (round(image.width * ratio), round(image.height * ratio))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.float32) / 255.0


def to_image(picture: Array, zoom: int) -> Image.Image:
    """Convert a picture to an 8-bit image, enlarged `zoom` times without smoothing."""
    image = Image.fromarray((picture * 255 + 0.5).astype(np.uint8))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


@click.command()
@click.argument(
    "photos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--side", default=160, show_default=True, help="Short side of each picture.")
@click.option("--columns", default=8, show_default=True, help="Cells in a row.")
@click.option("--zoom", default=1, show_default=True, help="Enlarge each picture this many times.")
@click.option("--seed", default=0, show_default=True)
@click.option("--quality", default=85, show_default=True, help="JPEG quality, for a .jpg sheet.")
@click.option("--only", multiple=True, help="Painter to show; can be repeated. All by default.")
@click.option("--no-photo", is_flag=True, help="Leave the photos themselves out.")
def main(
    photos: tuple[Path, ...],
    out: Path,
    side: int,
    columns: int,
    zoom: int,
    seed: int,
    quality: int,
    only: tuple[str, ...],
    no_photo: bool,
) -> None:
    """Paint PHOTOS with every painter (cropped square) and lay the results on one sheet."""
    only = tuple(name.replace("_", " ") for name in only)
    unknown = [name for name in only if name not in PAINTERS]
    if unknown:
        raise click.BadParameter(f"no painter {unknown[0]!r}; there are {', '.join(PAINTERS)}")
    cells: list[tuple[str, Image.Image]] = []
    loaded = [load(path, side, square=True) for path in photos]
    if not no_photo:
        cells += [("photo", to_image(photo, zoom)) for photo in loaded]
    for name in only or tuple(PAINTERS):
        for number, photo in enumerate(loaded):
            rng = np.random.default_rng([seed, number])
            cells.append((name, to_image(PAINTERS[name](photo, rng), zoom)))
    label, gap, size = 14, 4, side * zoom
    rows = -(-len(cells) // columns)
    sheet = Image.new(
        "RGB", (columns * (size + gap) + gap, rows * (size + label + gap) + gap), (246, 246, 244)
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for index, (text, image) in enumerate(cells):
        row, column = divmod(index, columns)
        x, y = gap + column * (size + gap), gap + row * (size + label + gap)
        draw.text((x, y), text, fill=(30, 30, 30), font=font)
        sheet.paste(image, (x, y + label))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, **({"quality": quality} if out.suffix.lower() in {".jpg", ".jpeg"} else {}))
    click.echo(f"{out}: {len(cells)} pictures", err=True)


if __name__ == "__main__":
    main()
