"""Running the real command, in this process and in a fresh one."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner, Result

from clipmamba.cli import main

# The command in a fresh Python that says afterwards which heavy packages it loaded.
WATCHED = """
import atexit, sys
atexit.register(lambda: print(
    "LOADED", *({"torch", "diffusers", "open_clip", "numpy"} & {*sys.modules}), file=sys.stderr))
from clipmamba.cli import main
main(prog_name="clipmamba")
"""


def fresh(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; stderr ends with a line LOADED and heavy packages."""
    command = [sys.executable, "-c", WATCHED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def invoke(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
