"""How the command reads a style: once, and with a hint where words may mean something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from running import fresh, invoke
from test_readme import needs_weights

from clipmamba import stylize as stylize_in_python
from clipmamba.clip import Clip
from clipmamba.io import read_picture, read_settings


def test_a_folder_encodes_its_words_once(here: Path, photo, stylize, monkeypatch) -> None:
    asked = []
    encode = Clip.encode_text
    monkeypatch.setattr(
        Clip, "encode_text", lambda self, texts: asked.append(texts) or encode(self, texts)
    )
    for number in range(4):
        photo.save(f"{number}.png")
    result = stylize(
        "0.png", "1.png", "2.png", "3.png", "-p", "fresco", "--variants", 2, "-o", "out"
    )
    assert result.exit_code == 0, result.stderr
    assert len(list(Path("out").iterdir())) == 8
    assert len(asked) == 1


@pytest.mark.parametrize("words", ["ukiyo-e", "watercolour", "van gogh at night"])
def test_words_in_the_place_of_a_file_are_told_the_option(here: Path, photo, words: str) -> None:
    photo.save("photo.png")
    done = fresh("stylize", "photo.png", words)
    assert done.returncode == 2
    assert f'use -p "{words}"' in done.stderr
    assert done.stderr.endswith("\nLOADED\n")


def test_without_words_a_missing_style_is_what_is_said(here: Path, photo) -> None:
    photo.save("photo.png")
    for arguments in (("photo.png",), ("photo.png", "missing.jpg"), ("missing.jpg",)):
        assert "no style given: add a prompt" in invoke("stylize", *arguments).stderr


def test_several_prompts_in_one_are_hinted_at(here: Path, photo, stylize) -> None:
    photo.save("photo.png")
    result = stylize("photo.png", "-p", "ukiyo-e:0.7,watercolor:0.3", "-o", "out.png")
    assert result.exit_code == 0
    assert '-p "ukiyo-e:0.7" -p "watercolor:0.3"' in result.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("pixel art:abc", "a weight is a number, as in 'pixel art:0.7'"),
        ("Fresco: 1/2", "a weight is a number"),
        ("fresco:0.7:0.3", "give one weight, as in 'fresco:0.7'"),
        ("poster: Paris", None),
        ("fresco:2", None),
    ],
)
def test_what_is_no_weight_is_hinted_at(
    here: Path, photo, stylize, words: str, hint: str | None
) -> None:
    photo.save("photo.png")
    result = stylize("photo.png", "-p", words, "-o", "out.png")
    assert result.exit_code == 0
    assert ("used literally" in result.stderr) == (hint is not None)
    assert hint is None or hint in result.stderr


def test_a_prompt_that_nobody_typed_is_in_no_settings(here: Path, photo, stylize) -> None:
    photo.save("photo.png")
    photo.save("wave.png")
    result = stylize("photo.png", "--style-image", "wave.png", "-o", "out.png", "--json")
    assert json.loads(result.stdout)["prompt"] is None
    settings = read_settings(read_picture("out.png"))
    assert "prompt" not in settings
    assert settings["style_image"] == ["wave.png"]
    stylize("photo.png", "-p", "oil:2", "--style-image", "wave.png", "-o", "both.png")
    assert read_settings(read_picture("both.png"))["prompt"] == "oil:2"


@needs_weights
def test_words_that_are_hardly_known_are_warned_of(here: Path) -> None:
    Image.new("RGB", (16, 16), "gray").save("photo.png")
    known = {}
    for words in ("mosaic", "qwertz uiop 77"):
        result = invoke(
            "stylize", "photo.png", "-p", words, "-o", "out.png", "--overwrite", "--json",
            "--device", "cpu",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        known[words] = json.loads(result.stdout)["familiarity"]
        assert ("is far from every style" in result.stderr) == (words != "mosaic")
    assert known["mosaic"] == 1 > 0.6 > known["qwertz uiop 77"]


@needs_weights
@pytest.mark.parametrize("words", ["mosaic", "qwertz uiop 77"])
@pytest.mark.parametrize("command", ["sheet", "embed", "video", "export"])
def test_every_command_warns_of_words_that_are_hardly_known(
    here: Path, command: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16, 16), "gray").save("photo.gif")
    places = {
        "sheet": ["photo.gif", "-o", "sheet.png"],
        "embed": ["-o", "style.safetensors"],
        "video": ["photo.gif", "out.gif"],
        "export": ["out.onnx"],
    }
    if command == "video":
        pytest.importorskip("av")
    if command == "export":  # without tracing the network, which takes a minute
        pytest.importorskip("onnx")
        monkeypatch.setattr("clipmamba.models.onnx_file.write_onnx", lambda *_, **__: [])
    device = [] if command == "export" else ["--device", "cpu"]
    result = invoke(command, *places[command], "-p", words, *device)
    assert result.exit_code == 0, result.stderr
    assert ("is far from every style" in result.stderr) == (words != "mosaic")


@needs_weights
@pytest.mark.parametrize("words", ["mosaic", "qwertz uiop 77"])
def test_stylize_in_python_warns_once_of_words_that_are_hardly_known(
    words: str, caplog: pytest.LogCaptureFixture
) -> None:
    photo = Image.new("RGB", (16, 16), "gray")
    stylize_in_python([photo, photo], words, variants=2, device="cpu")
    warnings = [text for text in caplog.messages if "is far from every style" in text]
    assert len(warnings) == (words != "mosaic")
