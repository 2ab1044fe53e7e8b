"""Lists of training pictures with faults, and without columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.train.pictures import Picture, read_pictures, set_aside


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Lists without faults: a painting, and nothing else."""
    Image.linear_gradient("L").save(tmp_path / "monet.png")
    (tmp_path / "pairs.csv").write_text("file,caption\n")
    (tmp_path / "content.csv").write_text("file,what\n")
    return tmp_path


def style_list(data: Path, text: str | bytes) -> None:
    raw = text.encode() if isinstance(text, str) else text
    (data / "style.csv").write_bytes(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,style_words\nnosuch.png,my style\n", r"row 1: no file 'nosuch.png'"),
        ("file,style_words\n,my style\n", "row 1: no file"),
        ("file;style_words\nmonet.png;my style\n", "separated by commas; it has: file;style_words"),
        ("file\nmonet.png\n", "needs the columns file, style_words"),
        ("style_words\nmy style\n", "needs the columns file, style_words"),
        ("", "it has: none"),
        ("file,style_words\nmonet.png,oil, thick\n", "row 1: more cells"),
        (b"file,style_words\nmonet.png,\xfc\n", "can't read .*UTF-8"),
        ("file,style_words\nstyle.csv,my style\n", "style.csv is not a picture"),
    ],
    ids=["missing", "empty name", "semicolons", "no words", "no files", "empty", "commas",
         "latin-1", "no picture"],
)  # fmt: skip
def test_a_list_with_a_fault_is_one_line(data: Path, text: str | bytes, message: str):
    style_list(data, text)
    with pytest.raises(InputError, match=message) as caught:
        read_pictures(data)
    assert "style.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "file,style_words\nmonet.png,my style\n",
        "\ufefffile,style_words\nmonet.png,my style\n",
        "style_words,artist,file\r\nmy style,,monet.png\r\n\r\n",
        "file,style_words,artist,genre,kind,caption\nmonet.png,my style\n",
    ],
    ids=["two columns", "byte order mark", "another order", "short rows"],
)
def test_what_a_list_lacks_is_empty(data: Path, text: str):
    style_list(data, text)
    first = read_pictures(data)[0]
    assert first.path == data / "monet.png"
    assert (first.caption, first.texts[0], first.movement) == ("my style", "my style", "")


def test_lists_without_a_picture_are_refused(data: Path):
    for name, columns in (
        ("style.csv", "file,style_words"),
        ("pairs.csv", "file,caption"),
        ("content.csv", "file,what"),
    ):
        (data / name).write_text(columns + "\n")
    with pytest.raises(InputError, match="no pictures"):
        read_pictures(data)


def test_pictures_for_validation_are_neither_trained_on_nor_the_judges():
    pictures = [Picture(Path(f"{n}.png"), "style", "", (), "") for n in range(5000)]
    aside = [picture for picture in pictures if set_aside(picture)]
    assert not any(picture.held_out for picture in aside)
    assert 50 < len(aside) < 150
    assert [p for p in pictures[::2] if set_aside(p)] == [p for p in aside if p in pictures[::2]]
