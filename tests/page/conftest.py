"""A served page with the tiny model, and a real Chromium; both with no way out of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

SECONDS = 30  # that anything may take on a busy machine before a test gives up

# The command in a Python that refuses, and names, every connection to another machine.
CUT_OFF = """
import sys
HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        print("NETWORK", event, host, file=sys.stderr, flush=True)
        raise OSError("no network")
sys.addaudithook(watch)
from clipmamba.cli import main
main(prog_name="clipmamba")
"""


@dataclass
class Served:
    """A page in a process of its own.

    Attributes:
        url: its address, with a slash at the end.
        process: the command.
        folder: where it keeps uploads.
        log: what it says on stderr.
    """

    url: str
    process: subprocess.Popen[str]
    folder: Path
    log: Path


@pytest.fixture(scope="session")
def served(
    tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """``clipmamba page``, started once."""
    pytest.importorskip("gradio")
    room = tmp_path_factory.mktemp("page")
    (room / "secret.txt").write_text("nobody may read this")
    log = room / "stderr"
    environment = {
        **os.environ,
        "TMPDIR": str(room),
        "GRADIO_ANALYTICS_ENABLED": "True",  # what the page promises, no environment changes
        "GRADIO_ALLOWED_PATHS": str(room),
        "GRADIO_SHARE": "True",
    }
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", CUT_OFF, "page", "--model", tiny_pipeline_folder,
             "--device", "cpu", "--max-pixels", "4000000"],
            stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, cwd=room,
        )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), log.read_text()
    [folder] = room.glob("clipmamba-page-*")
    yield Served(url, process, folder, log)
    process.send_signal(signal.SIGTERM)
    process.wait(SECONDS)
    assert not list(room.glob("clipmamba-page-*")), "uploads are left behind"
    assert "NETWORK" not in log.read_text()


@pytest.fixture
def visitors(chromium: object, served: Served) -> Iterator[object]:
    """Opens the page for one more visitor; none of them may ask another machine for anything."""
    elsewhere: list[str] = []
    problems: list[str] = []
    contexts = []

    def visit(**options: object) -> object:
        context = chromium.new_context(**options)
        contexts.append(context)

        def decide(route: object) -> None:
            if urlsplit(route.request.url).hostname == "127.0.0.1":
                route.continue_()
            else:
                elsewhere.append(route.request.url)
                route.abort()

        context.route("**/*", decide)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(served.url)
        page.wait_for_selector("#go")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not elsewhere
    assert not problems


@pytest.fixture
def photo_file(tmp_path: Path, photo: Image.Image) -> Path:
    """A photo with a profile, EXIF and a name that people give."""
    from clipmamba.io import srgb_profile

    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x0112] = 6
    file = tmp_path / "Été à la plage (1).jpg"
    photo.save(file, exif=exif.tobytes(), icc_profile=srgb_profile(), quality=95)
    return file
