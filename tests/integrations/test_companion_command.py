"""The command with a captioner, a painter of styles and a finisher."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipmamba.cli import main
from clipmamba.io import read_picture, read_settings
from clipmamba.pipelines import StylizePipeline
from clipmamba.pipelines.companions import Companions, StyleFinder
from clipmamba.styles import Style, StyleRequest


@pytest.fixture
def run(tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), (200, 40, 30)).save("church.png")
    Image.new("RGB", (40, 30), (30, 60, 200)).save("boat.png")

    def call(command: str, *arguments: object) -> Result:
        tiny = ["--model", str(tiny_pipeline_folder), "--device", "cpu"]
        return CliRunner().invoke(main, [command, *map(str, arguments), *tiny])

    return call


def test_captions_are_reported_and_stored(run, captioner_folder: Path) -> None:
    done = run("stylize", "church.png", "boat.png", "-p", "oil", "--source", "auto",
               "--captioner", captioner_folder, "-o", "out/", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines] == ["a red church", "a blue boat"]
    settings = read_settings(read_picture("out/boat.png"))
    assert settings is not None
    assert (settings["source"], settings["captioner"]) == ("a blue boat", captioner_folder.name)


def test_a_photo_that_a_model_fails_on_does_not_stop_the_others(
    run, captioner_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BlipForConditionalGeneration as Blip

    generate, asked = Blip.generate, []

    def fail_once(*given: object, **options: object) -> object:
        asked.append(given)
        if len(asked) == 1:
            raise RuntimeError("the kernel\nis broken")
        return generate(*given, **options)

    monkeypatch.setattr(Blip, "generate", fail_once)
    done = run("stylize", "church.png", "boat.png", "-p", "oil", "--source", "auto",
               "--captioner", captioner_folder, "-o", "out/")  # fmt: skip
    assert done.exit_code == 1, done.exception
    problem = f"the captioner {captioner_folder} failed: the kernel is broken"
    assert done.stderr.splitlines() == [f"Error: church.png: {problem}", "1 written, 1 failed"]
    assert [file.name for file in Path("out").iterdir()] == ["boat.png"]


def test_a_source_in_words_is_reported_as_it_is(run) -> None:
    done = run("stylize", "church.png", "-p", "oil", "--source", "a mill", "--json")
    line = json.loads(done.stdout)
    assert (line["source"], line["drawn"], line["finish"]) == ("a mill", None, None)


def test_style_from_and_finish_are_reported_and_stored(run, diffusion_folder: Path) -> None:
    done = run("stylize", "church.png", "-p", "tiki art", "--style-from", diffusion_folder,
               "--finish", f"{diffusion_folder}:0.1", "--seed", "5", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    line = json.loads(done.stdout)
    assert line["output"] == "church-tiki-art-seed5.png"
    assert line["finish"] == "model:0.1"
    [drawn] = line["drawn"]
    assert read_settings(read_picture(drawn))["seed"] == 5
    settings = read_settings(read_picture(line["output"]))
    assert settings is not None
    assert {
        "prompt": "tiki art",
        "style_from": "model",
        "finish": "model:0.1",
        "seed": 5,
    }.items() <= (settings.items())
    assert str(diffusion_folder) not in json.dumps(settings)  # not where somebody keeps it


def test_a_refused_picture_is_one_line_and_no_result(run, refusing_folder: Path) -> None:
    done = run("stylize", "church.png", "boat.png", "-p", "tiki art", "--style-from",
               refusing_folder, "-o", "out/")  # fmt: skip
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "safety checker" in done.stderr
    done = run("stylize", "church.png", "-p", "oil", "--finish", refusing_folder, "-o", "out/")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "safety checker" in done.stderr
    assert not [*Path("out").glob("*")]


@pytest.mark.parametrize(
    "options",
    [
        ["--source", "auto"],
        ["--source", "auto", "--captioner", "nobody/nothing"],
        ["--style-from", "nobody/nothing"],
        ["--finish", "nobody/nothing:0.3"],
    ],
)
def test_a_hubs_name_out_of_reach_is_one_line(run, monkeypatch, options: list[str]) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    done = run("stylize", "church.png", "-p", "oil", *options)
    assert done.exit_code == 3
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: the ")
    assert "can't be reached" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stylize", "church.png", "-p", "oil", "--captioner", "x/y"], "without source='auto'"),
        (["stylize", "church.png", "--style-image", "boat.png", "--style-from", "x/y"],
         "add a prompt"),
        (["stylize", "church.png", "-p", "oil", "--style-from", "x/y", "--template", "a {}"],
         "a template has no effect with a model that draws"),
        (["stylize", "church.png", "--style-image", "boat.png", "--template", "a {}"],
         "a template has no effect without words"),
        (["stylize", "church.png", "-p", "oil", "--finish", "x/y:3"], "strength of finish"),
        (["video", "a.mp4", "b.mp4", "-p", "oil", "--source", "auto"], "describe the content"),
        (["embed", "-p", "oil", "--source", "auto"], "describes a style image"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_the_work(run, arguments, message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert message in line


def test_embed_describes_its_style_picture(run, captioner_folder: Path) -> None:
    for name, source in (("auto", ["auto", "--captioner", captioner_folder]),
                         ("said", ["a blue boat"]), ("none", None)):  # fmt: skip
        options = [] if source is None else ["--source", *source]
        done = run("embed", "--style-image", "boat.png", *options, "-o", f"{name}.safetensors")
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"{name}.safetensors\n"
        assert done.stderr == ("source: a blue boat\n" if name == "auto" else "")
    auto, said, none = (
        Style.load(f"{name}.safetensors").embedding for name in ("auto", "said", "none")
    )
    assert auto.equal(said)
    assert not auto.equal(none)


WATCHED = """
import sys
from clipmamba.cli import main
try:
    main(prog_name="clipmamba")
finally:
    print("LOADED", *({"torch", "diffusers", "transformers"} & {*sys.modules}), file=sys.stderr)
"""


def test_a_drawn_picture_is_used_again_without_its_model(
    run, diffusion_folder: Path, tiny_pipeline_folder: Path
) -> None:
    command = ["stylize", "church.png", "-p", "tiki art", "--style-from", str(diffusion_folder)]
    assert run(*command).exit_code == 0
    tiny = ["--model", str(tiny_pipeline_folder), "--device", "cpu", "--overwrite"]
    again = subprocess.run(
        [sys.executable, "-c", WATCHED, *command, *tiny],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "diffusers" not in again.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["church.png", "-p", "oil", "--source", "auto", "--captioner", "."],
        ["church.png", "-p", "oil", "--style-from", "."],
        ["church.png", "-p", "oil", "--finish", ".:0.2"],
    ],
)
def test_help_and_wrong_folders_load_nothing_heavy(run, arguments: list[str]) -> None:
    pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "stylize", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    *said, loaded = done.stderr.splitlines()
    assert loaded == "LOADED"
    assert len(said) == (0 if arguments == ["--help"] else 1)


def teal(words: str, seed: int | None) -> Image.Image:
    return Image.new("RGB", (32, 32), "teal")


@pytest.mark.parametrize(
    ("said", "painter", "prepared"),
    [([], teal, 1), (["a cat"] * 3, None, 1), (["a cat", "a cat", "a dog"], None, 2)],
)
def test_a_style_is_prepared_once_for_photos_of_which_the_same_is_said(
    tiny_pipeline: StylizePipeline, monkeypatch: pytest.MonkeyPatch, said, painter, prepared
):
    asked = []
    prepare = tiny_pipeline.prepare
    monkeypatch.setattr(
        tiny_pipeline, "prepare", lambda *given: asked.append(given) or prepare(*given)
    )
    captions = iter(said)
    captioner = (lambda picture: next(captions)) if said else None
    request = StyleRequest.parse("mosaic", source="auto" if said else None)
    find = StyleFinder(tiny_pipeline.prepare, request, [None], Companions(captioner, painter))
    photos = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    found = [find(photo, None) for photo in photos]
    assert [one.source for one in found] == (said or [None] * 3)
    assert len(asked) == prepared
