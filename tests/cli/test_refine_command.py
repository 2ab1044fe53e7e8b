"""`clipmamba stylize --refine`: the picture, what is told of it, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import fresh, invoke

from clipmamba.io import read_picture, read_settings


def settings_of(file: str) -> dict[str, object]:
    return read_settings(read_picture(file)) or {}


@pytest.fixture
def here(here: Path, photo) -> Path:
    photo.save("photo.png")
    return here


def test_a_refined_picture_says_how_it_was_made(here, stylize, other_clip_folder):
    words = ("photo.png", "-p", "mosaic", "--refine", 3, "--seed", 5)
    done = stylize(*words, "-o", "refined.png", "--json")
    assert done.exit_code == 0, done.stderr
    [refinement] = json.loads(done.stdout)["refine"]
    assert 1 <= refinement["steps"] <= 3
    assert {"before", "after"} < {*refinement}
    settings = settings_of("refined.png")
    assert settings["refine"] == 3
    assert "refine_clip" not in settings
    assert stylize(*words, "-o", "again.png").exit_code == 0
    assert Path("again.png").read_bytes() == Path("refined.png").read_bytes()

    other = stylize(*words, "-o", "other.png", "--refine-clip", other_clip_folder)
    assert other.exit_code == 0, other.stderr
    assert settings_of("other.png")["refine_clip"] == other_clip_folder.name


def test_without_it_nothing_is_said(here, stylize):
    done = stylize("photo.png", "-p", "mosaic", "-o", "plain.png", "--json", "--refine", 0)
    assert json.loads(done.stdout)["refine"] is None
    assert "refine" not in settings_of("plain.png")
    stylize("photo.png", "-p", "mosaic", "-o", "usual.png")
    assert read_picture("plain.png").tobytes() == read_picture("usual.png").tobytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--refine", "-1"), "refine must be a whole number from 0"),
        (("--refine", "2.5"), "'--refine'"),
        (("--refine-clip", "ViT-B-32"), "--refine-clip does nothing without --refine"),
        (("--refine", "3", "--refine-clip", " "), "the name of the CLIP is empty"),
    ],
)
def test_errors_are_one_line_and_come_before_torch(here, words, said):
    done = fresh("stylize", "photo.png", "-p", "mosaic", *words)
    *lines, loaded = done.stderr.splitlines()
    assert done.returncode == 2
    assert said in lines[-1]
    assert "torch" not in loaded
    assert "Traceback" not in done.stderr


def test_a_clip_that_is_not_there_is_one_line(here, stylize):
    done = stylize("photo.png", "-p", "mosaic", "--refine", 1, "--refine-clip", "./nowhere")
    assert done.exit_code not in (0, None)
    assert "nowhere" in done.stderr.splitlines()[-1]
    assert list(here.iterdir()) == [here / "photo.png"]


def test_videos_are_not_refined(here):
    done = invoke("video", "clip.mp4", "out.mp4", "-p", "mosaic", "--refine", 3)
    assert done.exit_code == 2
    assert "--refine" in done.stderr.splitlines()[-1]
