"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import clipmamba

ROOT = Path(clipmamba.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
MODULES = sorted(
    ".".join(("clipmamba", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for file in ROOT.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_do_what_they_say(name: str) -> None:
    torch.manual_seed(0)
    ran = doctest.testmod(importlib.import_module(name), optionflags=FLAGS, raise_on_error=False)
    assert ran.attempted > 0
    assert ran.failed == 0


def test_the_main_doors_have_an_example() -> None:
    for door in (
        "pipelines.stylize", "pipelines.pipeline", "pipelines.photo", "models.stylizer",
        "styles.style", "styles.known", "clip.model", "ops.selective_scan.sequence", "hub",
    ):  # fmt: skip
        assert f"clipmamba.{door}" in MODULES
