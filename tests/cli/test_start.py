"""A prompt with the default weights loads torch and little else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_readme import needs_weights

HEAVY = ("diffusers", "torchvision", "transformers", "open_clip", "timm", "scipy", "onnx", "pandas")
WATCHED = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *({set(HEAVY)!r} & {{*sys.modules}}), file=sys.stderr))
from clipmamba.cli import main
main(prog_name="clipmamba")
"""


@needs_weights
@pytest.mark.parametrize(
    "style",
    [
        ["-p", "any words"],
        ["-p", "浮世絵"],
        ["-p", "ukiyo-e:0.7", "-p", "oil", "--avoid", "cubism"],
        ["--style-image", "photo.png"],
    ],
)
def test_a_style_is_read_without_heavy_packages(
    here: Path, photo: Image.Image, style: list[str]
) -> None:
    photo.save("photo.png")
    arguments = ["stylize", "photo.png", *style, "-o", "out.png", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "LOADED"
    assert Path("out.png").is_file()
