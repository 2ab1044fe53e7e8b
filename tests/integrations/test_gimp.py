"""GIMP's plug-in, as far as it goes without GIMP: the command that it builds and runs."""

from __future__ import annotations

import io
import os
import runpy
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

import clipmamba

FILE = Path(clipmamba.__file__).parent / "integrations/gimp/clipmamba/clipmamba.py"


@pytest.fixture
def plugin(monkeypatch):
    """The plug-in's functions, with empty stand-ins for GIMP's modules."""

    class Anything(types.SimpleNamespace):
        def __getattr__(self, name):
            return Anything()

        def __call__(self, *arguments):
            return None

    class PlugIn:
        __gtype__ = None

    names = ("GimpUi", "Gio", "GLib", "GObject")
    repository = Anything(Gimp=Anything(PlugIn=PlugIn), **{name: Anything() for name in names})
    monkeypatch.setitem(sys.modules, "gi", Anything(repository=repository))
    monkeypatch.setitem(sys.modules, "gi.repository", repository)
    return runpy.run_path(str(FILE))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`clipmamba` on a PATH of its own."""
    program = tmp_path / "clipmamba"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m clipmamba "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CLIPMAMBA", str(program))
    root = str(Path(clipmamba.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", root)
    return str(program)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in of the command is a shell script")
def test_a_layer_goes_through_the_command(plugin, command, tmp_path, tiny_pipeline_folder) -> None:
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    Image.effect_noise((40, 24), 60).convert("RGBA").save(before)
    built = plugin["build_command"]("-odd words", 0.7, 1.5, 4, "photo")
    model = ["--model", str(tiny_pipeline_folder)]
    plugin["restyle_file"](str(before), str(after), [*built, *model])
    by_hand = [sys.executable, "-m", "clipmamba", "stylize", str(before), "--prompt=-odd words"]
    by_hand += ["--strength", "0.7", "--stroke", "1.5", "--seed", "4", "--preserve-color"]
    done = subprocess.run([*by_hand, *model, "-o", "-"], capture_output=True, check=True)
    wanted, result = Image.open(io.BytesIO(done.stdout)), Image.open(after)
    assert result.mode == "RGBA"
    assert result.tobytes() == wanted.tobytes()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in of the command is a shell script")
def test_what_the_command_says_is_handed_on(plugin, command, tmp_path) -> None:
    (tmp_path / "before.png").write_bytes(b"no picture")
    built = plugin["build_command"]("mosaic", 1, 1, -1, "automatic")
    assert not any("seed" in option for option in built)
    with pytest.raises(ValueError, match="picture"):
        plugin["restyle_file"](str(tmp_path / "before.png"), str(tmp_path / "after.png"), built)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in of the command is a shell script")
def test_warnings_are_handed_on_when_it_succeeds(plugin, command, tmp_path, tiny_pipeline_folder):
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    Image.effect_noise((40, 24), 60).save(before)
    built = [*plugin["build_command"]("mosiac", 1, 1, -1, "automatic"), "--model"]
    said = plugin["restyle_file"](str(before), str(after), [*built, str(tiny_pipeline_folder)])
    assert "mosaic" in said


def test_every_choice_of_colors_is_the_commands(plugin, command) -> None:
    options = {
        name: plugin["build_command"]("mosaic", 1, 1, -1, name)[-1] for name in plugin["COLORS"]
    }
    assert options["photo"] == "--preserve-color"
    assert options["style"] == "--no-preserve-color"
    assert "color" not in options["automatic"]


def test_a_missing_command_is_said_with_its_remedy(plugin, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CLIPMAMBA", raising=False)
    with pytest.raises(ValueError, match="pip"):
        plugin["build_command"]("mosaic", 1, 1, -1, "automatic")


def test_no_words_are_refused(plugin) -> None:
    with pytest.raises(ValueError, match="style"):
        plugin["build_command"](" ", 1, 1, -1, "automatic")
