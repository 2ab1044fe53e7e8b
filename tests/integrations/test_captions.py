"""`--source auto`: a captioner of transformers says what is shown."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

from clipmamba import stylize
from clipmamba.cli import main
from clipmamba.errors import InputError, WeightsError
from clipmamba.integrations.captions import Captioner, without_medium

pytest.importorskip("transformers")

CHURCH, BOAT = (200, 40, 30), (30, 60, 200)  # what the captioner of conftest has learned


def exit_code(words: list[str]) -> int:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


@pytest.fixture
def church(tmp_path):
    file = tmp_path / "church.png"
    Image.new("RGB", (48, 40), CHURCH).save(file)
    return file


@pytest.fixture
def boat(tmp_path):
    file = tmp_path / "boat.png"
    Image.new("RGB", (48, 40), BOAT).save(file)
    return file


def test_each_picture_has_its_words(captioner_folder):
    say = Captioner(str(captioner_folder), "cpu")
    assert say(Image.new("RGB", (70, 30), CHURCH)) == "a red church"  # not "a painting of"
    assert say(Image.new("L", (5, 90), 255).convert("RGB").point(lambda _: 0)) is not None
    assert say(Image.new("RGBA", (30, 70), (*BOAT, 255))) == "a blue boat"


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("a painting of a red church", "a red church"),
        ("an oil painting of a cat", "a cat"),
        ("this is a picture of a drawing of two dogs.", "two dogs"),
        ("a black and white photo of a bridge", "a bridge"),
        ("a church with a painting", "a church with a painting"),
        ("a view of the sea", "the sea"),
    ],
)
def test_words_for_the_medium_are_style(caption, shown):
    assert without_medium(caption) == shown


def test_auto_is_the_same_as_the_words(captioner_folder, church, boat):
    auto = stylize(boat, style_image=church, source="auto", captioner=captioner_folder)
    said = stylize(boat, style_image=church, source="a red church")
    assert auto.tobytes() == said.tobytes()


def test_without_style_picture_the_photo_is_described(captioner_folder, church, boat):
    auto = stylize([boat, church], "woodcut", source="auto", captioner=captioner_folder)
    said = [
        stylize(boat, "woodcut", source="a blue boat"),
        stylize(church, "woodcut", source="a red church"),
    ]
    assert [one.tobytes() for one in auto] == [one.tobytes() for one in said]


def test_the_caption_is_reported_and_stored(captioner_folder, church, boat, tmp_path, capfd):
    result = tmp_path / "result.jpg"
    words = ["stylize", str(boat), "--style-image", str(church), "--source", "auto",
             "--captioner", str(captioner_folder), "-o", str(result), "--json"]  # fmt: skip
    assert exit_code(words) == 0
    assert json.loads(capfd.readouterr().out)["source"] == "a red church"
    with Image.open(result) as picture:
        comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert "a red church" in (comment if isinstance(comment, str) else comment.decode())


def test_a_name_that_is_not_here_is_one_line(church, boat):
    with pytest.raises(WeightsError, match="hf download some/captioner") as error:
        stylize(boat, style_image=church, source="auto", captioner="some/captioner")
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_refused_before_torch(church, boat, tmp_path):
    code = (
        "import atexit, sys; from clipmamba.cli import main; "
        "atexit.register(lambda: print(sorted({'torch', 'transformers', 'diffusers'} "
        "& set(sys.modules)))); "
        f"main(['stylize', {str(boat)!r}, '--style-image', {str(church)!r}, '--source', "
        f"'auto', '--captioner', {str(tmp_path)!r}], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.startswith("[]")
    assert "holds no captioner" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_captioner_without_auto_does_nothing(boat):
    with pytest.raises(InputError, match="source='auto'"):
        stylize(boat, "woodcut", captioner="some/captioner")
