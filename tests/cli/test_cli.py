"""The real command on real files."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import fresh, invoke

import clipmamba
from clipmamba.cli.terminal import status
from clipmamba.io import read_picture
from clipmamba.pipelines import StylizePipeline


@pytest.fixture
def folder(tmp_path: Path, photo: Image.Image) -> Path:
    photo.save(tmp_path / "photo.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "there.png").write_bytes(b"keep me")
    Image.new("L", (20, 60), 255).save(tmp_path / "tall.png")
    return tmp_path


# -- at once, without torch ------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["stylize", "--help"], []])
def test_help_is_light(arguments):
    done = fresh(*arguments)
    assert done.returncode == 0
    assert "clipmamba" in done.stdout
    assert done.stderr.strip() == "LOADED"


def test_the_main_help_fits_and_begins_with_what_people_want():
    commands = invoke("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert commands[0].split()[0] == "stylize"
    assert not [line for line in commands if line.endswith("...")]


BAD_REQUESTS = {
    "unknown command": (["paint"], "paint"),
    "no photo": (["stylize"], "INPUTS"),
    "unknown option": (["stylize", "photo.png", "--promt", "a"], "--prompt"),
    "no style": (["stylize", "photo.png"], "no style"),
    "weight": (["stylize", "photo.png", "-p", "a:0"], "above 0"),
    "no style file": (["stylize", "photo.png", "--style", "x.safetensors"], "no such style file"),
    "another file as style": (["stylize", "photo.png", "--style", "text.jpg:0.5"], "text.jpg"),
    "template": (["stylize", "photo.png", "-p", "a", "--template", "a poster"], "{}"),
    "a photo, no command": (["photo.png", "-p", "mosaic"], "clipmamba stylize photo.png"),
    "option without value": (["stylize", "photo.png", "--prompt"], "stylize --help"),
    "no extension": (["stylize", "photo.png", "-p", "a", "-o", "out"], "out/ for a folder"),
    "two formats": (["stylize", "photo.png", "-p", "a", "-o", "o.png", "--format", "jpg"], "jpg"),
    "large mask": (
        ["stylize", "photo.png", "-p", "a", "--mask", "tall.png", "--max-pixels", "9"],
        "tall.png has 1,200 pixels, more than 9",
    ),
    "large style": (["embed", "--style-image", "photo.png", "--max-pixels", "9"], "--max-pixels"),
    "large sheet": (["sheet", "photo.png", "--max-pixels", "9"], "--max-pixels 1536"),
    "large pair": (["compare", "photo.png", "photo.png", "--max-pixels", "9"], "--max-pixels"),
    "mask of another shape": (
        ["stylize", "photo.png", "-p", "a", "--mask", "tall.png"],
        "mask tall.png is 20x60, the photo 48x32",
    ),
    "region of another shape": (["stylize", "photo.png", "--region", "tall.png=a"], "tall.png is"),
    "region": (["stylize", "photo.png", "--region", "sky.png"], "AREA=PROMPT"),
    "region's mask": (["stylize", "photo.png", "--region", "sky.png=a"], "no such file: sky.png"),
    "mask": (["stylize", "photo.png", "-p", "a", "--mask", "text.jpg"], "not a picture"),
    "mask alone": (["stylize", "photo.png", "--mask", "photo.png"], "no style"),
    "variants": (["stylize", "photo.png", "-p", "a", "--variants", "0"], "variants"),
    "max size": (["stylize", "photo.png", "-p", "a", "--max-size", "0"], "max_size"),
    "stdin twice": (["stylize", "-", "-", "-p", "a"], "once"),
    "no match": (["stylize", "*.webp", "-p", "a"], "nothing matches"),
    "many to one": (["stylize", "photo.png", "there.png", "-p", "a", "-o", "o.png"], "a folder"),
    "json to stdout": (["stylize", "photo.png", "-p", "a", "-o", "-", "--json"], "--json"),
    "unknown style": (["styles", "ukiyooo"], "ukiyo-e"),
    "embed nothing": (["embed"], "no style"),
    "embed to nowhere": (["embed", "-p", "a", "-o", "nowhere/x.safetensors"], "no folder"),
    "embed to a folder": (["embed", "-p", "a", "-o", "."], "is a folder"),
    "embed to a file's inside": (["embed", "-p", "a", "-o", "file/x.safetensors"], "no folder"),
    "embed to a long name": (["embed", "-p", "a", "-o", "n" * 300], "too long"),
    "embed to what is there": (["embed", "-p", "a", "-o", "there.png"], "--overwrite"),
    "sheet of nothing": (["sheet", "nothing.png"], "no such file"),
    "compare nothing": (["compare", "photo.png", "nothing.png"], "no such file"),
    "shell": (["completion", "csh"], "csh"),
    "empty prompt": (["stylize", "photo.png", "-p", " "], "empty"),
    "strength": (["stylize", "photo.png", "-p", "a", "--strength", "2"], "strength"),
    "strength word": (["stylize", "photo.png", "-p", "a", "--strength", "much"], "--strength"),
    "seed": (["stylize", "photo.png", "-p", "a", "--seed", "-1"], "seed"),
    "device": (["stylize", "photo.png", "-p", "a", "--device", "toaster"], "toaster"),
    "missing photo": (["stylize", "nothing.png", "-p", "a"], "no such file: nothing.png"),
    "photo is a folder": (["stylize", ".", "-p", "a"], "is a folder"),
    "not a picture": (["stylize", "text.jpg", "-p", "a"], "not a picture"),
    "missing style": (["stylize", "photo.png", "--style-image", "x.png"], "no such file: x.png"),
    "no such folder": (["stylize", "photo.png", "-p", "a", "-o", "nowhere/o.png"], "no folder"),
    "file as folder": (["stylize", "photo.png", "-p", "a", "-o", "file/o.png"], "no folder"),
    "output extension": (["stylize", "photo.png", "-p", "a", "-o", "o.xyz"], "extension"),
    "output exists": (["stylize", "photo.png", "-p", "a", "-o", "there.png"], "--overwrite"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_are_one_line(folder, monkeypatch, case):
    monkeypatch.chdir(folder)
    arguments, words = BAD_REQUESTS[case]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_bad_requests_need_no_torch(folder):
    code = f"""
import sys
from click.testing import CliRunner
from clipmamba.cli import main
for arguments in {[arguments for arguments, _ in BAD_REQUESTS.values()]!r}:
    assert CliRunner().invoke(main, arguments).exit_code == 2, arguments
    assert not {{"torch", "diffusers", "open_clip"}} & {{*sys.modules}}, arguments
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr


# -- the work --------------------------------------------------------------------------------


def test_from_photo_to_picture(folder, tiny_pipeline_folder):
    done = fresh(
        *("stylize", folder / "photo.png", "--prompt", "Ukiyo-e, blue!"),
        *("--model", tiny_pipeline_folder, "--device", "cpu"),
    )
    output = folder / "photo-ukiyo-e-blue.png"
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output}\n"
    assert done.stderr.splitlines()[:-1] == []  # no progress: this is no terminal
    result, photo = read_picture(output), read_picture(folder / "photo.png")
    assert result.size == photo.size
    assert result.tobytes() != photo.tobytes()


def test_options_reach_the_pipeline(folder, tiny_pipeline, tiny_pipeline_folder, photo):
    photo.rotate(180).save(folder / "style.png")
    for options, keywords in (
        (["-p", "mosaic", "--strength", "0.5", "--seed", "3"],
         {"prompt": "mosaic", "strength": 0.5, "seed": 3}),
        (["--style-image", folder / "style.png"], {"style_image": folder / "style.png"}),
    ):  # fmt: skip
        output = folder / "out.png"
        result = invoke(
            *("stylize", folder / "photo.png", *options, "-o", output, "--overwrite"),
            *("--model", tiny_pipeline_folder, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.stderr
        expected = tiny_pipeline(photo, **keywords).images[0]
        assert read_picture(output).tobytes() == expected.tobytes()


def test_a_long_prompt_is_warned_about_in_one_line(folder, tiny_pipeline_folder):
    result = invoke(
        *("stylize", folder / "photo.png", "-p", "a very long prompt " * 20),
        *("--model", tiny_pipeline_folder, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("Warning: the prompt has ")
    assert result.stderr.count("\n") == 1


def test_a_word_nearly_known_is_asked_about_and_taken(folder, tiny_pipeline_folder):
    output = folder / "out.png"
    for prompt, meant in (("impresionism", "impressionism"), ("glass", None), ("my cat", None)):
        result = invoke(
            *("stylize", folder / "photo.png", "-p", f"{prompt}:0.5", "-o", output, "--overwrite"),
            *("--model", tiny_pipeline_folder, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.stderr
        hint = f"{prompt!r} is not a known style; used literally. Did you mean {meant!r}?"
        said = f"Warning: {hint}\n"
        assert result.stderr == ("" if meant is None else said)


def test_strength_is_monotone(folder, tiny_pipeline_folder):
    photo, distances = np.asarray(read_picture(folder / "photo.png"), float), []
    for strength in (0, 0.3, 0.7, 1, 1.25, 1.5):
        output = folder / f"{strength}.png"
        result = invoke(
            *("stylize", folder / "photo.png", "-p", "mosaic", "--strength", strength),
            *("-o", output, "--model", tiny_pipeline_folder, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.stderr
        distances.append(np.abs(np.asarray(read_picture(output), float) - photo).mean())
    assert distances[0] == 0
    assert all(b > a * 1.02 for a, b in itertools.pairwise(distances))


def test_same_command_same_bytes(folder, tiny_pipeline_folder):
    for name in ("a.jpg", "b.jpg"):
        result = invoke(
            *("stylize", folder / "photo.png", "-p", "mosaic", "-o", folder / name),
            *("--model", tiny_pipeline_folder, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.stderr
    assert (folder / "a.jpg").read_bytes() == (folder / "b.jpg").read_bytes()


def test_strength_zero_writes_the_photo(folder, tiny_pipeline_folder):
    output = folder / "same.png"
    result = invoke(
        *("stylize", folder / "photo.png", "-p", "mosaic", "--strength", "0", "-o", output),
        *("--model", tiny_pipeline_folder, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.stderr
    assert np.array_equal(read_picture(output), read_picture(folder / "photo.png"))


def test_broken_weights_are_one_line(folder, tiny_pipeline_folder, tmp_path_factory):
    model = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(tiny_pipeline_folder, model)
    (model / "stylizer" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    before = sorted(folder.iterdir())
    result = invoke("stylize", folder / "photo.png", "-p", "a", "--model", model)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ")
    assert str(model / "stylizer") in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_no_model_is_exit_code_3(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = fresh("stylize", "photo.png", "-p", "a", "--model", "nowhere")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0].startswith("Error: no model folder nowhere")
    assert done.stderr.splitlines()[1:] == ["LOADED"]


def test_interrupt_is_130_and_leaves_nothing(folder, tiny_pipeline_folder, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    for owner, name in ((StylizePipeline, "from_pretrained"), (Image.Image, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            result = invoke(
                *("stylize", folder / "photo.png", "-p", "mosaic"),
                *("--model", tiny_pipeline_folder, "--device", "cpu"),
            )
        assert result.exit_code == 130
        assert result.stdout == ""
        assert sorted(folder.iterdir()) == before


EARLY = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "PIL":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("clipmamba", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_an_interrupt_before_the_work_is_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", EARLY, "styles"], capture_output=True, text=True, check=False
    )
    assert done.returncode in (130, -signal.SIGINT)  # a shell reports both as 130
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_only_on_a_terminal(monkeypatch, terminal):
    stderr = io.StringIO()
    stderr.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    with status("loading the model"):
        pass
    assert ("loading the model" in stderr.getvalue()) == terminal


def test_python_m(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "clipmamba", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"clipmamba, version {clipmamba.__version__}\n"


def test_env_tells_what_a_bug_report_needs():
    result = invoke("env")
    assert result.exit_code == 0, result.output
    for words in ("clipmamba", "torch", "open-clip-torch", "mamba-ssm", "threads", "gpu"):
        assert words in result.stdout
    import torch

    assert torch.__version__.split("+")[0] in result.stdout
    from clipmamba.ops import backend_table

    lines = result.stdout.partition("scan backends")[2].splitlines()
    for backend in backend_table():
        line = next(x for x in lines if x.split()[:1] == [backend.name])
        assert backend.reason in line
    weights = Path(clipmamba.__file__).parent / "weights"
    for file in weights.glob("*/*.safetensors"):
        assert file.name in result.stdout
