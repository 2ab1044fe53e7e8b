"""styles, sheet, compare, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from running import fresh, invoke

from clipmamba.io.picture import is_result
from clipmamba.styles.known import KNOWN_STYLES


def test_styles_lists_all_with_their_other_names():
    done = fresh("styles")
    assert done.stderr == "LOADED\n"
    for style in KNOWN_STYLES:
        assert any(
            line.startswith(f"  {style.name} ") or line == f"  {style.name}"
            for line in done.stdout.splitlines()
        )
    assert "ukiyoe" in done.stdout


def test_styles_finds_a_word_and_suggests():
    assert invoke("styles", "ukiyoe").stdout.splitlines()[1].startswith("  ukiyo-e ")
    assert "stained glass" in invoke("styles", "church", "window").stdout
    lost = invoke("styles", "impresionism")
    assert lost.exit_code == 2
    assert "did you mean 'impressionism'?" in lost.stderr


def test_a_sheet_shows_the_photo_and_each_style(here, photo, tiny_pipeline_folder):
    photo.save("photo.png")
    Path("styles.txt").write_text("# mine\nmosaic\n\nwoodcut  # dark\n")
    result = invoke(
        *("sheet", "photo.png", "--prompts", "styles.txt", "-p", "etching", "--columns", "2"),
        *("-o", "sheet.png", "--model", tiny_pipeline_folder, "--device", "cpu"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "sheet.png\n"
    assert is_result("sheet.png")  # no photo to be restyled
    sheet = Image.open("sheet.png").convert("RGB")
    assert sheet.width == 8 + 2 * (48 + 8)  # two columns, two rows of four pictures
    top = sheet.height // 2 - 2 * 8 - 32
    first = sheet.crop((8, top, 8 + 48, top + 32))
    assert first.tobytes() == photo.tobytes()
    second = sheet.crop((8 + 56, top, 8 + 56 + 48, top + 32))
    assert second.tobytes() not in (photo.tobytes(), Image.new("RGB", (48, 32), "white").tobytes())
    again = invoke("sheet", "photo.png", "-o", "sheet.png")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_a_sheet_can_take_the_photos_colors_or_the_styles(here, photo, tiny_pipeline_folder):
    photo.save("photo.png")
    made = set()
    for option in ((), ("--preserve-color",), ("--no-preserve-color",)):
        name = f"{''.join(option) or 'default'}.png"
        result = invoke(
            *("sheet", "photo.png", "-p", "watercolor", "-o", name, *option),
            *("--model", tiny_pipeline_folder, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.stderr
        made.add(Image.open(name).convert("RGB").tobytes())
    assert len(made) == 3


def test_a_sheet_that_does_not_fit_in_memory_is_said(
    here, photo, tiny_pipeline_folder, monkeypatch
):
    def run_out(*_, **__):
        raise MemoryError

    monkeypatch.setattr("clipmamba.pipelines.pipeline.StylizePipeline.__call__", run_out)
    photo.save("photo.png")
    result = invoke("sheet", "photo.png", "--model", tiny_pipeline_folder, "--device", "cpu")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: photo.png does not fit in memory; ")
    assert "--size" in result.stderr


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"\xff\xfe\xff"])
def test_a_bad_list_of_prompts_is_said_at_once(here, photo, data):
    photo.save("photo.png")
    Path("styles.txt").write_bytes(data)
    done = fresh("sheet", "photo.png", "--prompts", "styles.txt")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: styles.txt ")
    assert done.stderr.endswith("\nLOADED\n")


def test_compare_puts_both_at_one_height(here, photo):
    photo.save("before.png")
    Image.new("RGB", (24, 16), "red").save("after.png")
    result = invoke("compare", "before.png", "after.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "after-compare.png\n"
    both = Image.open("after-compare.png").convert("RGB")
    assert both.width == 8 + 2 * (24 + 8)
    bottom = both.height - 2 * 8
    assert both.getpixel((8 + 32 + 12, bottom - 8)) == (255, 0, 0)
    assert both.getpixel((8 + 12, bottom - 8)) not in ((255, 0, 0), (255, 255, 255))
    assert is_result("after-compare.png")  # no photo to be restyled


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_CLIPMAMBA_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("clipmamba sty", {"stylize", "styles"}),
        ("clipmamba stylize x.png -p uki", {"ukiyo-e", "ukiyoe"}),
        ("clipmamba stylize x.png --prev", set()),
        ("clipmamba stylize x.png --preserve", {"--preserve-color"}),
        ("clipmamba stylize x.png --exist o", {"overwrite"}),
    ],
)
def test_completion_completes_without_torch(words, expected):
    code = "from clipmamba.cli import main; main(prog_name='clipmamba')"
    environment = {
        **os.environ, "_CLIPMAMBA_COMPLETE": "bash_complete",
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert {line.partition(",")[2] for line in done.stdout.splitlines() if line} == expected
    assert " torch\n" not in done.stderr
