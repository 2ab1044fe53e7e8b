"""The shipped weights need no network, and none is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image
from test_readme import needs_weights

# The command in a Python whose sockets lead nowhere and say who tried.
CUT_OFF = """
import socket, sys
def refuse(*arguments, **options):
    print("NETWORK", arguments, file=sys.stderr)
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from clipmamba.cli import main
main(prog_name="clipmamba")
"""


@needs_weights
def test_a_photo_is_restyled_without_asking_any_server(here: Path, photo: Image.Image) -> None:
    photo.save("photo.png")
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, "stylize", "photo.png", "-p", "ukiyo-e", "--device", "cpu"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HOME": str(here / "cache")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "photo-ukiyo-e.png\n"
