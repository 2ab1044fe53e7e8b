"""What README, CONTRIBUTING and docs promise is there: commands, options, files, snippets."""

from __future__ import annotations

import functools
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image, ImageChops

import clipmamba

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
         ROOT / "assets/README.md", *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip
README = PAGES[0].read_text(encoding="utf-8")
WEIGHTS = Path(clipmamba.__file__).parent / "weights"
MISSING = [name for name in ("mini", "prior", "stylizer") if not (WEIGHTS / name).is_dir()]
needs_weights = pytest.mark.skipif(bool(MISSING), reason=f"no default weights yet: {MISSING}")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
OURS = ("clipmamba", "clipmamba.train")


def page_id(value: object) -> str:
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else str(value)


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [body for found, body in FENCE.findall(text) if found == language]


def commands(page: Path) -> list[list[str]]:
    """Every simple command of a page's shell blocks, as words; comments dropped."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\|", line):
                words = shlex.split(part, comments=True)
                if words:
                    found.append(words)
    return found


def ours(words: list[str]) -> list[str] | None:
    """The words from our own program on: ``-m module`` or a path of scripts/ or ``clipmamba``."""
    for place, word in enumerate(words):
        if Path(word).name == "clipmamba":
            return ["-m", "clipmamba", *words[place + 1 :]]
        if word == "-m" and words[place + 1] in OURS:
            return words[place:]
        if word.startswith("scripts/"):
            return words[place:]
    return None


@functools.cache
def click_command(*program: str) -> click.Command:
    """The click command behind ``-m module`` or ``scripts/name.py``."""
    if program[0] == "-m":
        names = vars(importlib.import_module(f"{program[1]}.__main__"))
    else:
        names = runpy.run_path(str(ROOT / program[0]))
    found = [value for value in names.values() if isinstance(value, click.Command)]
    found = [value for value in found if isinstance(value, click.Group)] or found
    assert len(found) == 1, f"{program}: {found}"
    return found[0]


OWN_COMMANDS = [
    pytest.param(words, id=f"{page_id(page)}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in map(ours, commands(page))
    if words
]


# -- the two commands of the first screen ----------------------------------------------------


def test_first_screen_has_a_picture_and_two_commands():
    first_screen = README.partition("\n## ")[0]
    assert len(re.findall(r"^!\[", first_screen, re.MULTILINE)) == 1
    assert len(FENCE.findall(first_screen)) == 2


def test_ci_runs_the_second_command_word_for_word():
    _, second = blocks(ROOT / "README.md", "sh")[:2]
    command = next(line for line in second.splitlines() if not line.startswith("#"))
    assert command.endswith("pytest")
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert command in script
    assert os.access(ROOT / ".ci/run", os.X_OK)


@needs_weights
def test_first_command_restyles_the_picture(tmp_path):
    words = next(w for w in map(ours, commands(ROOT / "README.md")) if w)
    assert words[:3] == ["-m", "clipmamba", "stylize"]
    photo, place = ROOT / words[3], words.index("-o") + 1
    words[3], words[place] = str(photo), str(tmp_path / words[place])
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == words[place]
    with Image.open(photo) as before, Image.open(words[place]) as after:
        assert after.size == before.size
        changed = ImageChops.difference(before.convert("L"), after.convert("L"))
    histogram = changed.histogram()
    assert sum(level * count for level, count in enumerate(histogram)) / sum(histogram) > 5


# -- every command of every page -------------------------------------------------------------


@pytest.mark.parametrize("words", OWN_COMMANDS)
def test_commands_name_real_programs_and_options(words):
    program, rest = (words[:2], words[2:]) if words[0] == "-m" else (words[:1], words[1:])
    if not rest:
        assert program[0] == "-m" or (ROOT / program[0]).is_file()
        return
    command = click_command(*program)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    known |= set(command.context_settings.get("help_option_names", ["--help"]))
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known


def test_commands_name_real_inputs():
    for page in PAGES:
        for words in commands(page):
            for word in words:
                if word.startswith(("assets/", "scripts/", "tests/", "docs/")):
                    assert (ROOT / word).exists(), f"{page.name}: {word}"


def test_extras_exist():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in PAGES:
        for extras in re.findall(r"\.\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= set(project["optional-dependencies"]), page.name


# -- snippets and links ----------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_blocks_parse(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


@needs_weights
def test_readme_snippets_run(tmp_path, monkeypatch):
    (tmp_path / "assets").symlink_to(ROOT / "assets", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    snippets = blocks(ROOT / "README.md", "python")
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})
    assert Image.open(tmp_path / "pagoda.png").size == Image.open("assets/photos/pagoda.jpg").size


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        file = page.parent / target if target else page
        if MISSING and file.name in ("sheet.jpg", "strip.jpg"):
            continue  # made by the weights
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_row_of_a_table_has_all_cells(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for table in re.findall(r"^\|(?:[-: ]+\|)+\n(?:.+\n?)*", text, re.MULTILINE):
        ruler, *rows = table.splitlines()
        for row in rows:
            bars = len(re.findall(r"(?<!\\)\|", row))
            assert (row[0], bars) == ("|", ruler.count("|")), row


def test_docs_index_is_complete():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


# -- assets ----------------------------------------------------------------------------------


def test_photos_have_a_source_and_a_licence():
    table = (ROOT / "assets/README.md").read_text(encoding="utf-8")
    photos = sorted((ROOT / "assets/photos").iterdir())
    assert len(photos) == 6
    for photo in photos:
        row = next(line for line in table.splitlines() if f"`photos/{photo.name}`" in line)
        assert re.search(r"public domain|CC0|CC BY", row)
        with Image.open(photo) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 768
        assert photo.stat().st_size < 150_000


# -- weights ---------------------------------------------------------------------------------


@needs_weights
def test_default_weights_have_cards_and_fit():
    for name in ("mini", "prior", "stylizer"):
        assert (WEIGHTS / name / "README.md").is_file(), f"no model card for {name}"
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*/*")) < 60e6
    assert not [*WEIGHTS.rglob("*.pt"), *WEIGHTS.rglob("*.bin"), *WEIGHTS.rglob("*.pkl")]
