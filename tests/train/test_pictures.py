from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from profiles import swapped_profile

import clipmamba.train
from clipmamba.errors import InputError
from clipmamba.train.mini.pairs import misspell, pick_text
from clipmamba.train.pictures import (
    Picture,
    difference_hash,
    draw_by_look,
    group_near_duplicates,
    open_picture,
    read_pictures,
    split_fingerprint,
    without_bars,
)

STYLE = ("file", "title", "artist", "style_words", "genre", "kind", "caption")


def scene(seed: int, side: int = 200) -> Image.Image:
    """A picture with large shapes, as paintings have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    scene(1).save(tmp_path / "monet.png")
    scene(1).resize((90, 90)).save(tmp_path / "again.jpg", quality=70)
    scene(2).save(tmp_path / "anon.png")
    scene(3).save(tmp_path / "pair.png")
    scene(4).save(tmp_path / "fox.png")
    write(
        tmp_path / "style.csv",
        STYLE,
        [
            (
                "monet.png",
                "pond",
                "Monet",
                "Impressionism, landscape",
                "landscape",
                "real",
                "Pond",
            ),
            ("again.jpg", "pond", "", "Pop Art | flat", "", "made", ""),
            ("anon.png", "", "", "Impressionism", "", "made", "Some dots"),
        ],
    )
    write(tmp_path / "pairs.csv", ("file", "caption"), [("pair.png", "flag: Chad, emoji")])
    write(tmp_path / "content.csv", ("file", "what"), [("fox.png", "grey fox")])
    return tmp_path


def test_pictures_come_with_their_words(data: Path):
    monet, again, anon, pair, fox = read_pictures(data)
    assert (monet.kind, monet.caption, monet.movement) == ("style", "Pond", "impressionism")
    assert {"Monet", "in the style of Monet", "Impressionism landscape"} <= set(monet.texts)
    assert "a Impressionism painting" in monet.texts
    assert again.caption == "Pop Art, flat"  # words where there is no caption
    assert "in the style of Pop Art" in again.texts
    assert anon.movement == ""  # not a real painting
    assert (pair.caption, pair.texts) == ("flag: Chad, emoji", ("flag: Chad", "emoji"))
    assert (fox.caption, fox.kind) == ("a photo of grey fox", "photo")
    assert all(picture.path.is_file() for picture in (monet, again, anon, pair, fox))


def name(held_out: bool, start: int) -> str:
    """A file name that is held out or not."""
    return next(
        f"{n}"
        for n in range(start, start + 1000)
        if Picture(Path(f"{n}"), "style", "", (), "").held_out is held_out
    )


def write_styles(folder: Path, files: list[str]) -> None:
    rows = [(file, "", "", "cubism", "", "made", "") for file in files]
    write(folder / "style.csv", STYLE, rows)
    write(folder / "pairs.csv", ("file", "caption"), [])
    write(folder / "content.csv", ("file", "what"), [])


def test_rows_that_are_added_never_move_a_picture_across_the_split(tmp_path: Path):
    """Whatever is added, in whatever order, near-duplicates of both sides among it."""
    rng = random.Random(0)
    files = []
    for n in range(60):  # three files each of twenty pictures
        files.append(f"{n}.{'png' if n < 40 else 'jpg'}")
        scene(n % 20).resize((90 + n, 90 + n)).save(tmp_path / files[-1])
    assert {Picture(Path(file), "style", "", (), "").held_out for file in files} == {True, False}
    for _ in range(8):
        order = rng.sample(files, len(files))
        learned: set[str] = set()
        held_out: set[str] = set()
        for count in (10, 25, 60):
            write_styles(tmp_path, rng.sample(order[:count], count))
            pictures = read_pictures(tmp_path)
            now = {p.path.name for p in pictures if not p.held_out}
            tested = {p.path.name for p in pictures if p.held_out}
            assert learned <= now  # what was trained on still is
            assert not learned & tested
            assert not held_out & now
            learned, held_out = now, held_out | tested
            scenes = [{int(file.split(".")[0]) % 20 for file in side} for side in (now, tested)]
            assert not scenes[0] & scenes[1]  # no painting on both sides


def test_a_near_duplicate_in_training_leaves_a_held_out_picture_out(tmp_path: Path):
    lone, twin, other = name(True, 0), name(False, 1000), name(False, 2000)
    scene(1).save(tmp_path / f"{lone}.png")
    scene(2).save(tmp_path / f"{other}.png")
    scene(1).resize((90, 90)).save(tmp_path / f"{twin}.jpg", quality=70)
    write_styles(tmp_path, [f"{lone}.png", f"{other}.png"])
    before = {p.path.stem: p.held_out for p in read_pictures(tmp_path)}
    assert before == {lone: True, other: False}
    write_styles(tmp_path, [f"{twin}.jpg", f"{lone}.png", f"{other}.png"])
    assert {p.path.stem: p.held_out for p in read_pictures(tmp_path)} == {twin: False, other: False}


def test_a_split_has_a_fingerprint():
    def split(*names: str) -> str:
        return split_fingerprint(map(Path, names))

    assert split("1.png", "2.png") == split("2.png", "1.png") != split("1.png")
    assert split("1.png") == split("elsewhere/1.png")
    assert split(f"{name(True, 0)}.png") != split(f"{name(False, 0)}.png")
    assert len(split()) == 16


def test_a_missing_list_is_named(data: Path):
    (data / "pairs.csv").unlink()
    with pytest.raises(InputError, match=r"pairs\.csv is missing.*--data"):
        read_pictures(data)


def test_hashes_forgive_size_and_compression_but_not_another_picture(tmp_path: Path):
    files = []
    for seed in range(6):
        picture = scene(seed)
        bright = Image.fromarray(np.clip(np.asarray(picture) * 0.9 + 12, 0, 255).astype(np.uint8))
        for name, version in (
            ("large.png", picture),
            ("small.jpg", picture.resize((120, 120))),
            ("bright.webp", bright),
        ):
            files.append(tmp_path / f"{seed}-{name}")
            version.save(files[-1], quality=75)
    groups = group_near_duplicates(np.stack([difference_hash(file) for file in files]))
    assert groups == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9, 12, 12, 12, 15, 15, 15]


def test_groups_are_transitive():
    steps = np.zeros((3, 4), np.uint64)
    steps[1, 0] = (1 << 10) - 1
    steps[2, 0] = (1 << 20) - 1  # 20 bits from the first, 10 from the second
    assert group_near_duplicates(steps) == [0, 0, 0]
    assert group_near_duplicates(steps[[0, 2]]) == [0, 1]


def test_a_tenth_is_held_out_and_always_the_same():
    pictures = [Picture(Path(f"name-{n}.png"), "style", "", (), "") for n in range(2000)]
    held_out = [n for n, picture in enumerate(pictures) if picture.held_out]
    assert 150 < len(held_out) < 250
    assert held_out[:6] == [7, 8, 13, 21, 25, 48]  # on every machine


def test_misspelled_words_stay_readable():
    rng = random.Random(0)
    seen = {misspell("ukiyo-e print", rng) for _ in range(200)}
    assert {"ukiyoe print", "ukiyo e print"} <= seen
    assert all(abs(len(text) - len("ukiyo-e print")) <= 1 for text in seen)
    letters = {misspell("mosaic", rng) for _ in range(200)}
    assert all(text[0] == "m" for text in letters)  # the first letter stays
    assert {"msoaic", "mosac"} & letters or len(letters) > 5
    assert misspell("a b", rng) == "a b"


def test_a_text_is_one_of_the_pictures():
    rng = random.Random(0)
    picture = Picture(Path("x"), "style", "A Pond", ("Monet", "Impressionism"), "")
    texts = [pick_text(picture, rng) for _ in range(1000)]
    assert set(texts) == {"A Pond", "Monet", "Impressionism"}
    assert 0.2 < texts.count("A Pond") / 1000 < 0.4
    bare = Picture(Path("x"), "pair", "flag", (), "")
    assert pick_text(bare, random.Random(1)) == "flag"


def test_one_look_has_one_family_whatever_else_is_said():
    texts = (("Ukiyo-e, woodblock", "Ukiyo-e"), ("ukiyo-e",), ("Cubism", "in the style of Cubism"))
    families = [Picture(Path("x"), "style", "c", words, "").family for words in texts]
    assert families == ["ukiyo-e", "ukiyo-e", "cubism"]
    assert Picture(Path("x"), "pair", "a cat, emoji", ("a cat", "emoji"), "").family == "pair emoji"


def test_rare_looks_are_drawn_more_often_and_media_are_no_look():
    def some(count: int, *words: str) -> list[Picture]:
        return [Picture(Path(f"{words[0]}-{n}"), "style", "c", words, "") for n in range(count)]

    pictures = [
        *some(900, "Romanticism, landscape"),
        *some(20, "Painting, Oil, Ukiyo-e"),
        *some(40, "painting, oil"),
        *some(3, "origami"),
    ]
    drawn = draw_by_look(pictures, 100, seed=0)
    assert drawn == draw_by_look(pictures, 100, seed=0)
    assert len({picture.path for picture, _ in drawn}) == 100
    count = Counter(look for _, look in drawn)
    assert set(count) == {"romanticism", "ukiyo-e", ""}
    assert 8 <= count["ukiyo-e"] <= 20  # 2 of 100 without the weights
    assert all(look == "" for picture, look in drawn if "origami" in picture.path.name)
    assert len(draw_by_look(pictures, 10_000, seed=0)) == 963


def test_pictures_are_opened_upright_and_in_srgb(tmp_path: Path):
    """Stored on its side, with green as red: what a viewer shows is red above black."""
    stored = np.zeros((20, 30, 3), np.uint8)
    stored[:, :15, 1] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    file = tmp_path / "on-its-side.png"
    Image.fromarray(stored).save(file, exif=exif, icc_profile=swapped_profile())
    seen = np.asarray(open_picture(file), np.int16)
    expected = np.zeros((30, 20, 3), np.int16)
    expected[:15, :, 0] = 255
    assert np.abs(seen - expected).max() <= 2


def test_every_trainer_opens_pictures_by_the_one_function():
    """A file opened in another way would lie on its side, or have other colors, for one of them."""
    folder = Path(clipmamba.train.__file__).parent
    openers = [file.name for file in folder.rglob("*.py") if "Image.open(" in file.read_text()]
    assert openers == []


def framed(picture: Image.Image, bars: tuple[int, int, int, int]) -> Image.Image:
    """Put black bars, with the noise of a JPEG, left of, above, right of and below a picture."""
    left, top, right, bottom = bars
    size = picture.width + left + right, picture.height + top + bottom
    noise = np.random.default_rng(0).integers(0, 12, (size[1], size[0], 3), np.uint8)
    frame = Image.fromarray(noise)
    frame.paste(picture, (left, top))
    return frame


@pytest.mark.parametrize(
    "bars", [(9, 0, 0, 0), (0, 7, 0, 0), (0, 0, 30, 0), (0, 0, 0, 1), (5, 6, 7, 8)]
)
def test_black_bars_are_cropped(bars: tuple[int, int, int, int]) -> None:
    picture = scene(5)
    cropped = without_bars(framed(picture, bars))
    left, top, right, bottom = (2 * (bar > 0) for bar in bars)  # the lines beside a bar
    expected = picture.crop((left, top, 200 - right, 200 - bottom))
    assert cropped.size == expected.size
    assert cropped.tobytes() == expected.tobytes()


@pytest.mark.parametrize("level", [0, 20, 255])
def test_a_picture_without_bars_stays_whole(level: int) -> None:
    """Night scenes are dark to the edge and beyond, and drawings have white margins."""
    even = Image.new("RGB", (120, 80), (level,) * 3)
    assert without_bars(even) is even
    night = framed(scene(5), (90, 90, 90, 90))
    assert without_bars(night) is night
    assert without_bars(scene(6)).size == (200, 200)
