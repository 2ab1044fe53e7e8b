"""``clipmamba video``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from running import fresh, invoke

COLORS = ("red", "green", "blue", "white", "black", "yellow", "navy", "pink")


@pytest.fixture
def clip(here: Path) -> Path:
    """An animation of eight frames, each for a tenth of a second."""
    frames = [Image.new("RGB", (48, 32), color) for color in COLORS]
    frames[0].save("in.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return here / "in.gif"


@pytest.fixture
def video(tiny_pipeline_folder: Path):
    def call(*arguments: object) -> Result:
        return invoke("video", *arguments, "--model", tiny_pipeline_folder, "--device", "cpu")

    return call


def frames_of(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_it_prints_what_it_wrote(video, clip):
    done = video("in.gif", "out.mp4", "-p", "woodcut", "--strength", "0.5", "--seed", "2")
    assert done.exit_code == 0, done.output
    assert done.stdout == "out.mp4\n"
    assert frames_of(clip.parent / "out.mp4") == 8


def test_part_size_and_rate(video, clip):
    done = video(
        "in.gif", "out.gif", "-p", "woodcut", "--start", "0:00.2", "--end", "0.6",
        "--max-size", "24", "--fps", "5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with Image.open("out.gif") as image:
        assert (image.size, image.n_frames) == ((24, 16), 2)


def test_every_option_of_the_style_is_taken(video, clip, photo):
    photo.save("style.png")
    done = video(
        "in.gif", "out.mkv", "-p", "woodcut:0.5", "--style-image", "style.png", "--avoid", "photo",
        "--source", "a square", "--template", "{} art", "--preserve-color", "--detail", "0.1",
        "--no-grain", "--tile", "off", "--codec", "vp9", "--quality", "40", "--steady", "0",
        "--no-sound",
    )  # fmt: skip
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.gif", "out.avi", "-p", "x"], "out.avi"),
        (["in.gif", "in.gif", "-p", "x"], "exists"),
        (["none.mp4", "out.mp4", "-p", "x"], "no such file"),
        (["in.gif", "out.mp4"], "no style"),
        (["in.gif", "out.mp4", "-p", "x", "--start", "soon"], "1:30"),
        (["in.gif", "out.mp4", "-p", "x", "--fps", "1/0"], "29.97"),
        (["in.gif", "out.mp4", "-p", "x", "--strength", "9"], "strength"),
    ],
)
def test_what_is_wrong_is_one_line(video, clip, arguments, message):
    done = video(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in clip.parent.iterdir()] == ["in.gif"]


def test_usage_errors_load_nothing_heavy(clip):
    assert fresh("video", "in.gif", "out.gif").stderr.splitlines()[-1] == "LOADED"
    assert fresh("video", "--help").stderr.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("name", ["av", "cv2"])
def test_a_missing_package_is_named(video, clip, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    done = video("in.gif", "out.mp4", "-p", "x")
    assert done.exit_code == 2
    assert "clipmamba[video]" in done.stderr
    assert not Path("out.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_was_done_or_nothing(clip, tiny_pipeline_folder, number, code):
    frames = [Image.effect_noise((320, 240), 40 + turn) for turn in range(60)]
    frames[0].save("long.gif", save_all=True, append_images=frames[1:], duration=100)
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmamba", "video", "long.gif", "out.mp4", "-p", "x",
         "--device", "cpu", "--model", tiny_pipeline_folder],
        stderr=subprocess.PIPE, text=True,
        # A background shell starts its commands with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not list(clip.parent.glob(".clipmamba-*")):
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, said = process.communicate()
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert ("Interrupted." in said) == (number == signal.SIGINT)
    left = {path.name for path in clip.parent.iterdir()} - {"in.gif", "long.gif"}
    assert left <= {"out.mp4"}
    if left:
        assert 0 < frames_of(Path("out.mp4")) < 60
