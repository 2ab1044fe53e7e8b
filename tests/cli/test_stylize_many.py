"""Many pictures, streams, reports, exit codes: the promises to scripts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops
from running import fresh, invoke

from clipmamba.io import read_picture, srgb_profile
from clipmamba.pipelines import StylizePipeline

KEYS = {"input", "output", "state", "size", "prompt", "source", "parts", "drawn", "finish",
        "refine", "model", "seed", "device", "backend", "familiarity", "seconds",
        "error"}  # fmt: skip


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def same(a: object, b: object) -> bool:
    first, second = read_picture(a), read_picture(b)
    return first.size == second.size and first.tobytes() == second.tobytes()


# -- folders ---------------------------------------------------------------------------------


def test_a_folder_one_load_one_bad_file(tree, stylize, monkeypatch):
    Path("holiday/damaged.jpg").write_bytes(Path("holiday/a.jpg").read_bytes()[:400])
    loads = []
    load = StylizePipeline.from_pretrained.__func__

    def counted(cls, *arguments):
        loads.append(arguments)
        return load(cls, *arguments)

    monkeypatch.setattr(StylizePipeline, "from_pretrained", classmethod(counted))
    before = {path: path.read_bytes() for path in Path("holiday").rglob("*.*") if path.is_file()}
    result = stylize("-r", "holiday", "-p", "mosaic", "-o", "out")
    assert result.exit_code == 1
    assert len(loads) == 1
    assert result.stdout.splitlines() == ["out/a.jpg", "out/a.png", "out/sub/b.png"]
    assert "holiday/damaged.jpg" in result.stderr
    assert result.stderr.splitlines()[-1] == "3 written, 1 failed"
    found = sorted(str(path) for path in Path("out").rglob("*") if path.is_file())
    assert found == sorted(result.stdout.splitlines())
    for name in found:
        assert not same(name, Path("holiday", Path(name).relative_to("out")))
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_goes_on_where_it_ended(tree, stylize):
    Path("out/sub").mkdir(parents=True)
    Path("out/sub/b.png").write_bytes(b"keep me")
    result = stylize("-r", "holiday", "-p", "mosaic", "-o", "out", "--exist", "skip")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == ["out/a.jpg", "out/a.png"]
    assert result.stderr == "2 written, 1 skipped\n" or result.stderr == "1 skipped, 2 written\n"
    assert Path("out/sub/b.png").read_bytes() == b"keep me"
    again = stylize("-r", "holiday", "-p", "mosaic", "-o", "out", "--exist", "skip")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "3 skipped\n")
    refused = stylize("-r", "holiday", "-p", "mosaic", "-o", "out")
    assert refused.exit_code == 2
    assert "--exist skip" in refused.stderr
    replaced = stylize("-r", "holiday", "-p", "mosaic", "-o", "out", "--overwrite")
    assert replaced.exit_code == 0
    assert Path("out/sub/b.png").read_bytes() != b"keep me"


def test_same_picture_alone_and_in_a_folder(tree, stylize):
    stylize("-r", "holiday", "-p", "mosaic", "--seed", "3", "-o", "out")
    stylize("holiday/a.png", "-p", "mosaic", "--seed", "3", "-o", "alone.png")
    assert Path("out/a.png").read_bytes() == Path("alone.png").read_bytes()


def test_failures_while_writing_do_not_stop_the_rest(tree, stylize):
    Path("out/a.jpg").mkdir(parents=True)  # in the way
    result = stylize("-r", "holiday", "-p", "mosaic", "-o", "out", "--exist", "overwrite")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["out/a.png", "out/sub/b.png"]
    assert "out/a.jpg" in result.stderr


def test_only_bad_files_load_no_model(tree):
    Path("x.png").write_text("no picture")
    done = fresh("stylize", "x.png", "missing.png", "-p", "a", "-o", "out")
    assert done.returncode == 2
    assert done.stdout == ""
    *said, loaded = done.stderr.splitlines()
    assert loaded == "LOADED"
    assert len(said) == 3
    assert "2 failed" in said[2]
    assert not Path("out").exists()


# -- reports ---------------------------------------------------------------------------------


def test_json_is_a_line_a_picture(tree, stylize):
    Path("holiday/damaged.png").write_bytes(b"\x89PNG")
    result = stylize("-r", "holiday", "-p", "mosaic:0.5", "--seed", "4", "-o", "out", "--json")
    assert result.exit_code == 1
    reports = {report["input"]: report for report in lines(result.stdout)}
    assert len(reports) == 4
    assert all(set(report) == KEYS for report in reports.values())
    good, bad = reports["holiday/a.jpg"], reports["holiday/damaged.png"]
    assert good["output"] == "out/a.jpg"
    assert good["size"] == [48, 32]
    assert (good["state"], good["error"], good["seed"]) == ("written", None, 4)
    assert (good["prompt"], good["device"]) == ("mosaic:0.5", "cpu")
    assert good["backend"] in ("cpu", "torch")
    assert good["seconds"] > 0
    assert "/" not in good["model"]
    assert (bad["state"], bad["output"], bad["size"]) == ("failed", None, None)
    assert "damaged.png" in bad["error"]


def test_the_backend_reported_is_the_one_asked_for(tree, stylize, monkeypatch):
    monkeypatch.setenv("CLIPMAMBA_BACKEND", "torch")
    result = stylize("holiday/a.png", "-p", "mosaic", "-o", "x.png", "--json")
    assert lines(result.stdout)[0]["backend"] == "torch"
    monkeypatch.setenv("CLIPMAMBA_BACKEND", "mamba_ssm")
    refused = stylize("holiday/a.png", "-p", "mosaic", "-o", "y.png", "--json")
    assert refused.exit_code == 2
    assert "mamba_ssm" in refused.stderr
    assert not Path("y.png").exists()


def test_dry_run_writes_nothing_and_loads_nothing(tree):
    before = sorted(tree.rglob("*"))
    done = fresh("stylize", "-r", "holiday", "-p", "mosaic", "-o", "out", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "holiday/a.jpg -> out/a.jpg", "holiday/a.png -> out/a.png",
        "holiday/sub/b.png -> out/sub/b.png",
    ]  # fmt: skip
    assert done.stderr == "LOADED\n"
    done = fresh("stylize", "holiday/a.png", "no.png", "-p", "x", "-o", "o", "--dry-run", "--json")
    assert done.returncode == 1
    assert [report["state"] for report in lines(done.stdout)] == ["planned", "failed"]
    assert sorted(tree.rglob("*")) == before


# -- streams ---------------------------------------------------------------------------------


def test_a_picture_through_a_pipe(tree, tiny_pipeline_folder, stylize):
    data = Path("holiday/a.png").read_bytes()
    command = [sys.executable, "-m", "clipmamba", "stylize", "-", "-p", "mosaic", "--device", "cpu"]
    command += ["--model", str(tiny_pipeline_folder)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    stylize("holiday/a.png", "-p", "mosaic", "-o", "file.png")
    assert done.stdout == Path("file.png").read_bytes()
    jpeg = subprocess.run(
        [*command, "--format", "jpg"], input=data, capture_output=True, check=True
    )
    assert Image.open(io.BytesIO(jpeg.stdout)).format == "JPEG"


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_bad_stream_is_one_line(here, data):
    done = fresh("stylize", "-", "-p", "a", input=data.decode())
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert "standard input" in done.stderr


def test_a_reader_that_leaves_is_no_error(here):
    command = f"{sys.executable} -m clipmamba styles | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "painting:\n"
    assert done.stderr == ""


# -- a person at a terminal -------------------------------------------------------------------


def test_a_terminal_sees_a_bar_with_the_time_left(tree, tiny_pipeline_folder):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with subprocess.Popen(
        [sys.executable, "-m", "clipmamba", "stylize", "-r", "holiday", "-p", "mosaic", "-o", "out",
         "--device", "cpu", "--model", str(tiny_pipeline_folder)],
        stdout=subprocess.PIPE, stderr=terminal,
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(main, 65536):
                shown += part
        stdout, _ = process.communicate()
    os.close(main)
    assert process.returncode == 0, shown
    assert stdout.splitlines() == [b"out/a.jpg", b"out/a.png", b"out/sub/b.png"]
    assert b"loading the model" in shown
    assert b"/3 pictures" in shown
    assert re.search(rb"\d\d:\d\d left", shown)


# -- hostile files ----------------------------------------------------------------------------


def test_a_folder_of_hostile_files_is_a_line_each_and_never_a_traceback_or_a_hang(
    here, photo, tiny_pipeline_folder
):
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274], exif[271], exif[0x8769] = 6, "Camera", {36867: "2024:05:06 07:08:09"}
    Path("in").mkdir()
    for extension in ("png", "jpg", "webp", "tif", "avif", "gif", "bmp", "ppm", "jp2"):
        carries = {"exif": exif.tobytes(), "icc_profile": srgb_profile()}
        file = io.BytesIO()
        kind = Image.registered_extensions()[f".{extension}"]
        plain = extension in ("gif", "bmp", "ppm", "jp2")
        photo.save(file, format=kind, **({} if plain else carries))
        whole = file.getvalue()
        for index in range(12):
            data = bytearray(whole)
            places = random.integers(0, len(data), 1 + index)
            data[int(places[0]) :] = b"" if index % 3 == 0 else data[int(places[0]) :]
            for place in places[1:] if index % 3 else ():
                head = min(len(data), 400)  # metadata as well as pixels
                data[int(place) % (head if index % 3 == 1 else len(data))] = random.integers(256)
            Path(f"in/{index:02}.{extension}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "clipmamba", "stylize", "-r", "in", "-p", "mosaic", "-o", "out",
         "--json", "--max-pixels", "100000", "--max-size", "64", "--device", "cpu",
         "--model", str(tiny_pipeline_folder)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    reports = lines(done.stdout)
    assert len(reports) == 9 * 12
    failed = [report for report in reports if report["state"] == "failed"]
    assert 20 < len(failed) < 9 * 12
    said = done.stderr.splitlines()
    for report in failed:
        assert f"Error: {report['error']}" in said
        assert report["input"] in report["error"]
    whole = {report["output"] for report in reports if report["state"] == "written"}
    assert whole == {str(path) for path in Path("out").iterdir()}


# -- interruption ----------------------------------------------------------------------------

SLOW = """
import time
from clipmamba.pipelines import StylizePipeline
call = StylizePipeline.__call__
def slow(self, *arguments, **options):
    time.sleep(0.3)
    return call(self, *arguments, **options)
StylizePipeline.__call__ = slow
from clipmamba.cli import main
main(prog_name="clipmamba")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_pictures_only(
    here, photo, tiny_pipeline_folder, number, code
):
    Path("in").mkdir()
    for index in range(30):
        photo.save(f"in/{index:02}.png")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "stylize", "-r", "in", "-p", "mosaic", "-o", "out",
         "--device", "cpu", "--model", str(tiny_pipeline_folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code
    assert first == "out/00.png\n"
    assert "Traceback" not in stderr
    assert stderr.strip() == ("Interrupted." if number == signal.SIGINT else "")
    left = sorted(Path("out").iterdir())
    assert 1 <= len(left) < 30
    for path in left:  # no temporary file, no half picture
        assert path.name[:2].isdigit()
        assert read_picture(path).size == photo.size


# -- the options of the look -----------------------------------------------------------------


def test_every_option_of_the_look_reaches_the_pipeline(tree, stylize, tiny_pipeline):
    photo = read_picture("holiday/a.png")
    mask = Image.linear_gradient("L").resize(photo.size)
    mask.save("mask.png")
    photo.rotate(180).save("style.png")
    style = Image.open("style.png").copy()
    for options, keywords in (
        (["-p", "ukiyo-e:0.7", "-p", "mosaic:0.3"], {"prompt": ["ukiyo-e:0.7", "mosaic:0.3"]}),
        (["-p", "mosaic", "--style-image", "style.png"],
         {"prompt": "mosaic", "style_image": style}),
        (["-p", "mosaic", "--avoid", "blue", "--source", "a church"],
         {"prompt": "mosaic", "avoid": "blue", "source": "a church"}),
        (["-p", "mosaic", "--preserve-color"], {"prompt": "mosaic", "preserve_color": True}),
        (["-p", "mosaic", "--detail", "0.1"], {"prompt": "mosaic", "detail": 0.1}),
        (["-p", "mosaic", "--no-grain"], {"prompt": "mosaic", "grain": False}),
        (["-p", "mosaic", "--max-size", "24"], {"prompt": "mosaic", "max_size": 24}),
        (["-p", "mosaic", "--mask", "mask.png"], {"prompt": "mosaic", "mask": mask}),
        (["--region", "mask.png=mosaic"], {"regions": [(mask, "mosaic")]}),
        (["-p", "mosaic", "--template", "a {} poster", "--template", "{} print"],
         {"prompt": "mosaic", "templates": ["a {} poster", "{} print"]}),
    ):  # fmt: skip
        result = stylize("holiday/a.png", *options, "-o", "x.png", "--overwrite")
        assert result.exit_code == 0, (options, result.stderr)
        expected = tiny_pipeline(photo, **keywords).images[0]
        assert read_picture("x.png").tobytes() == expected.tobytes(), options


def test_a_region_s_mask_may_have_an_equals_sign(tree, stylize):
    Image.new("L", (48, 32), 255).save("a=b.png")
    result = stylize("holiday/a.png", "--region", "a=b.png=x=y", "-o", "x.png", "--json")
    assert result.exit_code == 0, result.stderr
    assert lines(result.stdout)[0]["prompt"] == "x=y"


def test_reports_keep_the_order_of_the_pictures(tree, stylize, photo):
    for name in ("0", "2", "4"):
        Path(f"holiday/{name}.jpg").write_bytes(b"damaged")
        photo.save(f"holiday/{int(name) + 1}.jpg")
    result = stylize("-r", "holiday", "-p", "mosaic", "-o", "out", "--json")
    names = [report["input"] for report in lines(result.stdout)]
    assert len(names) == 9
    assert names == sorted(names)


def test_a_mask_of_another_shape_fails_that_photo_only(tree, stylize, photo):
    photo.resize((20, 60)).save("holiday/tall.png")
    Image.new("L", (48, 32), 255).save("mask.png")
    result = stylize("holiday/*.png", "-p", "mosaic", "--mask", "mask.png", "-o", "out")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["out/a.png"]
    assert "holiday/tall.png: " in result.stderr


def test_variants_carry_their_seed(tree, stylize):
    result = stylize("holiday/a.png", "-p", "mosaic", "--variants", "3", "--seed", "5", "--json")
    names = [report["output"] for report in lines(result.stdout)]
    assert names == [f"holiday/a-mosaic-seed{seed}.png" for seed in (5, 6, 7)]
    assert not same(names[0], names[1])
    stylize("holiday/a.png", "-p", "mosaic", "--seed", "6", "-o", "six.png")
    assert same("six.png", names[1])


def test_metadata_is_kept_or_not(tree, stylize, photo):
    exif = Image.Exif()
    exif[0x010F] = "Camera maker"
    photo.save("holiday/exif.jpg", exif=exif)
    for choice, kept in (("all", True), ("none", False)):
        result = stylize(
            "holiday/exif.jpg", "-p", "a", "-o", f"{choice}.jpg", "--keep-metadata", choice
        )
        assert result.exit_code == 0, result.stderr
        assert (Image.open(f"{choice}.jpg").getexif().get(0x010F) is not None) == kept


def test_a_saved_style_gives_the_same_picture(tree, stylize, tiny_pipeline_folder):
    model = ("--model", tiny_pipeline_folder, "--device", "cpu")
    result = invoke("embed", "-p", "ukiyo-e", "-p", "mosaic:0.2", *model)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "ukiyo-e-mosaic.safetensors\n"
    assert invoke("embed", "-p", "ukiyo-e", "-p", "mosaic:0.2", *model).exit_code == 2
    stylize("holiday/a.png", "--style", "ukiyo-e-mosaic.safetensors", "-o", "saved.png")
    stylize("holiday/a.png", "-p", "ukiyo-e", "-p", "mosaic:0.2", "-o", "said.png")
    difference = ImageChops.difference(read_picture("saved.png"), read_picture("said.png"))
    assert max(high for _, high in difference.getextrema()) <= 1


# -- beside other programs, and at limits ------------------------------------------------------


def test_a_result_of_another_run_is_skipped_not_failed(tree, stylize, monkeypatch):
    call = StylizePipeline.__call__

    def meanwhile(self, *arguments, **options):
        Path("x.png").write_bytes(b"theirs")
        return call(self, *arguments, **options)

    monkeypatch.setattr(StylizePipeline, "__call__", meanwhile)
    options = ("holiday/a.png", "-p", "mosaic", "-o", "x.png", "--json")
    result = stylize(*options, "--exist", "skip")
    assert (result.exit_code, lines(result.stdout)[0]["state"]) == (0, "skipped")
    Path("x.png").unlink()
    result = stylize(*options)
    assert (result.exit_code, lines(result.stdout)[0]["state"]) == (1, "failed")
    assert Path("x.png").read_bytes() == b"theirs"


def test_what_the_format_can_not_hold_is_refused_before_the_work(here, stylize, monkeypatch):
    Image.new("RGB", (16_384, 2)).save("wide.png")
    monkeypatch.setattr(StylizePipeline, "__call__", lambda *_, **__: pytest.fail("it worked"))
    result = stylize("wide.png", "-p", "mosaic", "-o", "out.webp")
    assert result.exit_code == 1
    assert "WEBP holds at most 16,383 pixels per side" in result.stderr


def test_another_style_in_the_same_folder_restyles_the_photos_alone(tree, stylize):
    for style in ("mosaic", "woodcut"):
        result = stylize("-r", "holiday", "-p", style)
        assert result.exit_code == 0, result.stderr
        names = (f"a-{style}.jpg", f"a-{style}.png", f"sub/b-{style}.png")
        assert result.stdout.splitlines() == [f"holiday/{name}" for name in names]
    assert "3 results of earlier runs skipped" in result.stderr
