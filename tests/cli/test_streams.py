"""Streams that are closed or full, pipes, places that are gone: one line, or the work is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from running import invoke

from clipmamba.cli.files import collect
from clipmamba.cli.photos import read_photo
from clipmamba.io import read_picture

pytestmark = pytest.mark.skipif(os.name == "nt", reason="streams and pipes of Unix")


# The real command, but for the network, whose start would take each test seconds of torch.
WITHOUT_TORCH = """
from types import SimpleNamespace
from PIL import ImageOps
from clipmamba.__main__ import main
from clipmamba.cli import run

class Negative:
    device = "cpu"
    from_pretrained = classmethod(lambda cls, *_: cls())
    prepare = only = lambda self, *_: self

    def prepare(self, request, seeds):
        style = SimpleNamespace(familiarity=None, parts=())
        style.only = lambda seed: style
        return style

    def __call__(self, picture, **_):
        picture = ImageOps.invert(picture.convert("RGB"))
        return SimpleNamespace(images=[picture], refinements=[])

run.StylizePipeline = Negative
run._scan_backend = lambda device: "none"
main(prog_name="clipmamba")
"""


@pytest.fixture
def shell(here: Path, photo: Image.Image):
    """Run a line of the shell in which $C is ``clipmamba`` and $S restyles."""
    photo.save("photo.png")
    Path("program.py").write_text(WITHOUT_TORCH)
    command = f"{sys.executable} {here}/program.py"

    def run(line: str) -> subprocess.CompletedProcess[str]:
        line = line.replace("$S", f"{command} stylize -p mosaic").replace("$C", command)
        return subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=240
        )

    return run


def one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.stderr.startswith("Error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_hinder_the_work(shell, photo, closed: str) -> None:
    done = shell(f"$S photo.png -o out.png {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "out.png\n")
    assert read_picture("out.png").size == photo.size


def test_what_needs_a_closed_stream_says_so(shell) -> None:
    assert "nothing.png" in shell("$S nothing.png --dry-run").stderr
    done = shell("$S - -o out.png <&-")
    assert done.returncode == 2
    one_line(done, "standard input is empty")
    done = shell("$S photo.png -o - >&-")
    assert done.returncode == 2
    one_line(done, "standard output is closed")
    assert shell("$S nothing.png 2>&-").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output(shell) -> None:
    done = shell("cp photo.png b.png; $S photo.png b.png -o out > /dev/full")
    assert done.returncode == 1
    one_line(done, "standard output: No space left")
    assert sorted(path.name for path in Path("out").iterdir()) == ["b.png", "photo.png"]
    done = shell("$S photo.png -o - > /dev/full")
    assert done.returncode == 1
    one_line(done, "standard output: No space left")
    for command in ("styles", "--help", "--version", "completion bash"):
        done = shell(f"$C {command} > /dev/full")
        assert done.returncode == 1, command
        one_line(done, "standard output: No space left")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_error_is_no_traceback(shell) -> None:
    assert shell("$S nothing.png 2> /dev/full").returncode == 2


def test_empty_names_are_one_line(here, photo) -> None:
    photo.save("photo.png")
    for arguments in (["stylize", "", "-p", "a"], ["stylize", "photo.png", "-p", "a", "-o", ""]):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: a name is empty")
        assert result.stderr.count("\n") == 1


def test_a_working_folder_that_is_gone(shell, here) -> None:
    done = shell("mkdir d; cd d; rmdir ../d; $S photo.png")
    assert done.returncode == 2
    one_line(done, "working directory no longer exists")
    done = shell(f"mkdir e; cd e; rmdir ../e; $S {here}/photo.png -o {here}/out.png --dry-run")
    assert (done.returncode, done.stdout) == (0, f"{here}/photo.png -> {here}/out.png\n")


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_a_picture_through_a_pipe_with_a_name(here, photo, extension: str) -> None:
    photo.save(f"in.{extension}")
    os.mkfifo("pipe")
    data = Path(f"in.{extension}").read_bytes()
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(data,))
    writer.start()
    [found] = collect(["pipe"])
    assert read_photo(found, 10_000).tobytes() == read_picture(f"in.{extension}").tobytes()
    writer.join()
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(data,))
    writer.start()
    assert read_picture("pipe").size == photo.size  # so in Python
    writer.join()


def test_a_pipe_in_a_folder_is_passed_over(here, photo) -> None:
    Path("in").mkdir()
    photo.save("in/photo.png")
    os.mkfifo("in/pipe.png")
    for inputs in ("in", "in/*"):
        assert [str(found) for found in collect([inputs], recursive=True)] == ["in/photo.png"]


@pytest.mark.parametrize("source", ["pipe.png", "-"])
def test_waiting_for_a_pipe_ends_at_the_first_interrupt(here, source: str) -> None:
    os.mkfifo("pipe.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmamba", "stylize", source, "-p", "a", "-o", "out.png"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    started = Path(f"/proc/{process.pid}/task")
    while started.exists() and len(list(started.iterdir())) < 3:  # until it reads, in threads
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert process.stderr is not None
    assert process.stderr.read().strip() == "Interrupted."
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_an_interrupt_inside_an_exec_has_the_usual_exit_code(tmp_path: Path) -> None:
    """As one that comes while a module defines a dataclass."""
    (tmp_path / "interrupted.py").write_text(
        "from clipmamba.cli.exits import PoliteGroup\n"
        "group = PoliteGroup('group')\n"
        "@group.command()\n"
        "def go():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "group(['go'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")
