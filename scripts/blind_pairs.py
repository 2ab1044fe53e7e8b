"""Compare two sets of pictures without knowing which is which.

python scripts/blind_pairs.py make --first new=runs/candidate --second old=default
python scripts/blind_pairs.py score votes.txt

`make` applies both models to 40 prompts on 8 photos and puts the results left and right at random.
A model is a saved pipeline, `default`, or a folder of pictures named as `make --list` prints. Look
at the sheets at 1:1 and write one line per pair into a file: its number, then l, r or = (`17 l`).
`score` reads the key, which nobody should read before.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from clipmamba.errors import InputError
from clipmamba.evaluate.protocol import PHOTOS
from clipmamba.evaluate.ruler import read_photos
from clipmamba.io import read_picture
from clipmamba.pipelines import StylizePipeline
from clipmamba.train.options import PoliteGroup

PROMPTS = (
    "oil painting", "like a van gogh painting", "klimt", "monet garden", "rembrandt",
    "watercolor painting", "loose watercolour wash", "gouache", "pastel", "ink wash",
    "pencil drawing", "charcoal sketch", "crayon drawing by a child", "ballpoint pen doodle",
    "engraving", "woodcut", "linocut", "ukiyo-e", "hokusai wave", "japanese print",
    "comic book", "manga", "anime", "studio ghibli", "cartoon", "pop art", "andy warhol",
    "stained-glass window", "mosaic", "pixel art", "low poly", "art nouveau poster",
    "art deco poster", "picasso", "pointillism", "expressionism, the scream", "film noir",
    "old polaroid", "cyberpunk neon", "embroidery",
)  # fmt: skip
"""Common prompts. Some occur in the training captions: this is a comparison, not a benchmark."""

A_SHEET = 4  # pairs per sheet
GAP = 16


def asked(photos: int = 8) -> list[tuple[str, int]]:
    """Return each prompt with the index of its photo."""
    return [(prompt, number % photos) for number, prompt in enumerate(PROMPTS)]


def file_name(number: int) -> str:
    """Return the file name of a pair's picture in a folder of pictures."""
    return f"{number:02}.png"


def paint(source: str, photos: list[Image.Image]) -> list[Image.Image]:
    """Return the pictures of a folder, or a saved pipeline's result for every prompt.

    Raises:
        InputError: The source is neither.
    """
    folder = None if source == "default" else Path(source)
    if folder and (folder / file_name(1)).is_file():
        return [
            read_picture(folder / file_name(number)).convert("RGB").resize(photos[photo].size)
            for number, (_, photo) in enumerate(asked(), 1)
        ]
    if folder and not (folder / "model_index.json").is_file():
        raise InputError(f"{folder}: neither a saved pipeline nor pictures {file_name(1)}, …")
    pipeline = StylizePipeline.from_pretrained(folder)
    return [
        pipeline(photos[photo], prompt=prompt).images[0].convert("RGB") for prompt, photo in asked()
    ]


def draw_sheet(pairs: list[tuple[int, str, Image.Image, Image.Image]]) -> Image.Image:
    """Draw a column of pairs, each with its number and prompt, at full resolution."""
    width = max(left.width + right.width + GAP for _, _, left, right in pairs)
    height = sum(left.height + 3 * GAP for _, _, left, _ in pairs)
    sheet = Image.new("RGB", (width, height), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(20), 0
    for number, prompt, left, right in pairs:
        draw.text((4, top + 4), f"{number}   {prompt}", fill="black", font=font)
        sheet.paste(left, (0, top + 2 * GAP))
        sheet.paste(right, (left.width + GAP, top + 2 * GAP))
        top += left.height + 3 * GAP
    return sheet


def read_votes(text: str, pairs: int) -> dict[int, str]:
    """Parse votes: "l", "r" or "=" by number of the pair.

    Raises:
        InputError: A line is not a vote, or a pair is missing or listed twice.
    """
    votes: dict[int, str] = {}
    for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
        match = re.fullmatch(r"(\d+)\s+([lr=])", line.lower())
        if not match or not 1 <= int(match[1]) <= pairs or int(match[1]) in votes:
            raise InputError(f"votes: {line!r}; give each pair from 1 to {pairs} once, as '3 l'")
        votes[int(match[1])] = match[2]
    if missing := sorted({*range(1, pairs + 1)} - {*votes}):
        raise InputError(f"votes: none for {', '.join(map(str, missing))}")
    return votes


def count_votes(votes: dict[int, str], first_is: list[str]) -> Counter[str]:
    """Count the first model's wins, ties and losses; `first_is` has its sides, "l" or "r"."""
    return Counter(
        "tied" if votes[number] == "=" else "won" if votes[number] == side else "lost"
        for number, side in enumerate(first_is, 1)
    )


def named(text: str) -> tuple[str, str]:
    """Split NAME=SOURCE."""
    name, _, source = text.partition("=")
    if not name or not source:
        raise InputError(f"{text!r}: give NAME=FOLDER, or NAME=default")
    return name, source


@click.group(cls=PoliteGroup)
def main() -> None:
    """Compare two models without knowing which is which."""


@main.command()
@click.option("--first", metavar="NAME=FOLDER", help="The model whose wins are counted.")
@click.option("--second", metavar="NAME=FOLDER")
@click.option(
    "--ruler",
    type=click.Path(path_type=Path),
    default=Path("runs/evaluate/ruler"),
    show_default=True,
    help="Made by scripts/evaluate.py; has the photos.",
)
@click.option("--size", default=512, show_default=True, help="Longest side in pixels.")
@click.option("--seed", type=int, help="Seed of the sides; random by default.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/blind"))
@click.option("--list", "only_list", is_flag=True, help="Print file name, photo and prompt.")
def make(
    first: str | None,
    second: str | None,
    ruler: Path,
    size: int,
    seed: int | None,
    output: Path,
    only_list: bool,
) -> None:
    """Draw the sheets and hide the key."""
    if only_list:
        for number, (prompt, photo) in enumerate(asked(), 1):
            click.echo(f"{file_name(number)}\t{PHOTOS[photo].name}\t{prompt}")
        return
    if not first or not second:
        raise InputError("give --first and --second")
    (first_name, first_source), (second_name, second_source) = named(first), named(second)
    photos = read_photos(ruler, PHOTOS[:8], size)
    firsts, seconds = paint(first_source, photos), paint(second_source, photos)
    coin = random.Random(seed)
    first_is = [coin.choice("lr") for _ in PROMPTS]
    output.mkdir(parents=True, exist_ok=True)
    pairs = [
        (number, PROMPTS[number - 1], *((a, b) if side == "l" else (b, a)))
        for number, (side, a, b) in enumerate(zip(first_is, firsts, seconds, strict=True), 1)
    ]
    for start in range(0, len(pairs), A_SHEET):
        sheet = draw_sheet(pairs[start : start + A_SHEET])
        sheet.save(output / f"pairs-{start + 1:02}.png", compress_level=3)
    key = {"first": first_name, "second": second_name, "first_is": first_is}
    (output / ".key.json").write_text(json.dumps(key) + "\n")
    click.echo(f"{len(pairs)} pairs in {output}; vote, then: score VOTES --output {output}")


@main.command()
@click.argument("votes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", type=click.Path(exists=True, path_type=Path), default=Path("runs/blind"))
def score(votes: Path, output: Path) -> None:
    """Read the key and count the votes."""
    key = json.loads((output / ".key.json").read_text())
    counted = count_votes(read_votes(votes.read_text(), len(key["first_is"])), key["first_is"])
    click.echo(
        f"{key['first']} against {key['second']}: {counted['won']} won, {counted['tied']} tied, "
        f"{counted['lost']} lost"
    )


if __name__ == "__main__":
    main()
