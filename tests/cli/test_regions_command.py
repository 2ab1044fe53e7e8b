"""Regions by words from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import fresh

from clipmamba.io import read_picture, read_settings

SKY = (120, 170, 240)


@pytest.fixture
def beach(here: Path) -> Path:
    """A photo with sky in its upper half: a gradient above sand."""
    rows = np.linspace(0, 1, 96)[:, None, None]
    upper = np.array(SKY) + rows * np.array([100, 60, 10])
    noise = np.random.default_rng(0).normal(0, 18, (96, 256, 1))
    lower = np.array([170, 140, 90]) + noise
    pixels = np.concatenate([np.broadcast_to(upper, (96, 256, 3)), lower])
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save("beach.png")
    Image.new("L", (256, 192), 255).save("all.png")
    return here


def test_a_region_by_words_is_reported_stored_and_shown(beach, stylize) -> None:
    done = stylize("beach.png", "--region", "sky=starry night", "--region", "all.png=oil",
                   "--keep", "the sky", "-o", "out/", "--show-mask", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["parts"].keys() == {"sky", "the sky"}
    assert 0.35 < line["parts"]["sky"] < 0.65
    settings = read_settings(read_picture("out/beach.png"))
    assert settings is not None
    assert settings["regions"] == ["sky=starry night", "all.png=oil"]
    assert settings["keep"] == ["the sky"]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "beach.png", "beach.sky.png", "beach.the-sky.png",
    ]  # fmt: skip
    mask = np.asarray(read_picture("out/beach.sky.png"))
    assert (mask[:70] == 255).all()
    assert (mask[130:] == 0).all()


def test_a_shown_mask_does_what_its_words_did(beach, stylize) -> None:
    for command in (
        ("-p", "oil", "--mask", "sky", "-o", "words.png", "--show-mask"),
        ("-p", "oil", "--mask", "words.sky.png", "-o", "file.png"),
    ):
        done = stylize("beach.png", *command, "--no-settings")
        assert done.exit_code == 0, done.stderr
    assert Path("words.png").read_bytes() == Path("file.png").read_bytes()


def test_a_shown_mask_is_skipped_by_the_next_run(beach, stylize) -> None:
    Path("holiday").mkdir()
    Path("beach.png").rename("holiday/beach.png")
    stylize("holiday/beach.png", "-p", "oil", "--mask", "sky", "-o", "holiday/new.png",
            "--show-mask")  # fmt: skip
    done = stylize("holiday", "-r", "-p", "oil", "-o", "out", "--dry-run")
    assert len(done.stdout.splitlines()) == 1
    assert "2 results of earlier runs skipped" in done.stderr


def test_words_that_look_alike_have_masks_of_their_own(beach, stylize) -> None:
    done = stylize("beach.png", "-p", "oil", "--mask", "sky", "--keep", "Sky", "--show-mask",
                   "-o", "a.jpg")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in Path().glob("a.*")) == [
        "a.jpg", "a.sky-2.png", "a.sky.png",
    ]  # fmt: skip


def test_faces_by_two_methods_have_masks_of_their_own(beach, stylize, monkeypatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("clipmamba.regions.words.PACKAGES", {})
    Path("finder").mkdir()
    Path("finder/config.json").touch()
    done = stylize("beach.png", "-p", "oil", "--mask", "face", "--faces", "keep", "--segmenter",
                   "finder", "--show-mask", "-o", "a.png", "--dry-run")  # fmt: skip
    assert done.stdout.splitlines() == [
        "beach.png -> a.png", "beach.png -> a.face.png", "beach.png -> a.face-offline.png",
    ]  # fmt: skip


def test_a_folder_of_that_name_is_no_mask(beach, stylize) -> None:
    Path("sky").mkdir()
    done = stylize("beach.png", "--region", "sky=starry night", "--keep", "sky", "-o", "a.png")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("policy", [(), ("--overwrite",), ("--exist", "skip")])
def test_a_mask_never_takes_the_file_of_a_result_or_photo(beach, stylize, policy) -> None:
    Path("beach.png").rename("a.png")
    Image.new("RGB", (64, 48), SKY).save("a.sky.png")
    before = Path("a.sky.png").read_bytes()
    for photos in (("a.sky.png", "a.png"), ("a.png", "a.sky.png")):
        done = stylize(*photos, "-p", "oil", "--mask", "sky", "--show-mask", "-o", "out/", *policy)
        assert done.exit_code == 2
        assert "the mask of sky in a.png would be out/a.sky.png" in done.stderr
        assert Path("a.sky.png").read_bytes() == before
        assert not Path("out").exists()


def test_a_mask_that_the_run_reads_is_not_replaced(beach, stylize) -> None:
    Path("all.png").rename("a.sky.png")
    before = Path("a.sky.png").read_bytes()
    done = stylize("beach.png", "-p", "oil", "--mask", "a.sky.png", "--keep", "sky", "--show-mask",
                   "-o", "a.jpg", "--overwrite")  # fmt: skip
    assert done.exit_code == 2
    assert "which is read by this run" in done.stderr
    assert Path("a.sky.png").read_bytes() == before


def test_results_that_differ_in_their_extension_have_masks_of_their_own(beach, stylize) -> None:
    Image.open("beach.png").save("beach.jpg")
    command = ("beach.jpg", "beach.png", "-p", "oil", "--mask", "sky", "--show-mask", "-o", "out/")
    planned = stylize(*command, "--dry-run").stdout.splitlines()
    done = stylize(*command)
    assert done.exit_code == 0, done.stderr
    names = ["beach-jpg.sky.png", "beach-png.sky.png", "beach.jpg", "beach.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert sorted(line.rpartition("out/")[2] for line in planned) == names


def test_a_mask_with_too_long_a_name_stops_the_run_before_the_work(beach, stylize) -> None:
    done = stylize(
        "beach.png", "-p", "oil", "--mask", "sky", "--show-mask", "-o", "a" * 249 + ".png"
    )
    assert done.exit_code == 2
    assert ".sky.png" in done.stderr
    assert not list(Path().glob("aaa*"))


def test_an_old_mask_stops_the_run_before_the_work(beach, stylize) -> None:
    Path("a.sky.png").write_bytes(b"mine")
    command = ("beach.png", "-p", "oil", "--mask", "sky", "--show-mask", "-o", "a.png")
    done = stylize(*command)
    assert done.exit_code == 2
    assert "a.sky.png exists already" in done.stderr
    assert Path("a.sky.png").read_bytes() == b"mine"
    assert not Path("a.png").exists()
    assert stylize(*command, "--overwrite").exit_code == 0
    assert read_picture("a.sky.png").size == (256, 192)


def test_masks_and_words_are_joined(beach, stylize) -> None:
    lower = Image.new("L", (256, 192))
    lower.paste(255, (0, 96, 256, 192))
    lower.save("lower.png")
    done = stylize("beach.png", "-p", "oil", "--mask", "sky", "--mask", "lower.png", "-o", "a.png")
    assert done.exit_code == 0, done.stderr
    assert stylize("beach.png", "-p", "oil", "-o", "b.png").exit_code == 0
    a, b = (np.asarray(read_picture(name)) for name in ("a.png", "b.png"))
    away = np.r_[:70, 96:192]  # from the sky's soft edge
    np.testing.assert_array_equal(a[away], b[away])
    assert read_settings(read_picture("a.png"))["mask"] == ["sky", "lower.png"]


def test_nothing_found_is_a_warning_with_the_photo_s_name(here, stylize) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save("noise.png")
    done = stylize("noise.png", "-p", "oil", "--mask", "sky", "-o", "out.png", "--json")
    assert done.exit_code == 0
    assert "noise.png: no sky was found" in done.stderr
    assert json.loads(done.stdout)["parts"] == {"sky": 0.0}
    np.testing.assert_array_equal(np.asarray(read_picture("out.png")), noise)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "oil", "--mask", "tree"], "can't find 'tree'"),
        (["--region", "tree=oil"], "can't find 'tree'"),
        (["-p", "oil", "--keep", "tree"], "can't find 'tree'"),
        (["-p", "oil", "--mask", "tree.png"], "no such file: tree.png"),
        (["-p", "oil", "--keep", "tree.png"], "no such file: tree.png"),
        (["-p", "oil", "--segmenter", "a/b"], "a segmenter has no effect"),
        (["-p", "oil", "--mask", "sky", "--segmenter", "a/b/c"], "give an existing folder"),
        (["-p", "oil", "--mask", "sky", "--show-mask", "-o", "-"], "give -o a file"),
        (["-p", "oil", "--show-mask"], "add, for example, --mask sky"),
        (["-p", "oil", "--mask", "all.png", "--show-mask"], "add, for example, --mask sky"),
        (["--mask", "sky"], "no style"),
        (["--region", "sky="], "AREA=PROMPT"),
        (["-p", "oil", "--faces", "blur"], "'blur'"),
    ],
)
def test_what_can_t_be_done_is_one_line_before_torch(beach, arguments, message: str) -> None:
    done = fresh("stylize", "beach.png", *arguments)
    assert done.returncode == (3 if "a/b/c" in arguments else 2)  # 3: what concerns weights
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "torch" not in done.stderr.splitlines()[-1]
    assert {path.name for path in Path().iterdir()} == {"all.png", "beach.png"}
