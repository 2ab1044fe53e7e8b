"""A tiny model and small trees of pictures for the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from running import invoke


@pytest.fixture
def stylize(tiny_pipeline_folder: Path) -> Callable[..., Result]:
    """``clipmamba stylize`` with the tiny model."""

    def call(*arguments: object, **options: object) -> Result:
        tiny = ("--model", tiny_pipeline_folder, "--device", "cpu")
        return invoke("stylize", *arguments, *tiny, **options)

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tree(here: Path, photo: Image.Image) -> Path:
    """A folder with pictures of equal names, a damaged one and other files."""
    for name in ("holiday/a.jpg", "holiday/a.png", "holiday/sub/b.png", "holiday/.hidden/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(name)
    Path("holiday/notes.txt").write_text("no picture")
    return here
