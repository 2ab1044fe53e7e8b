"""Which pictures are read, and where results go: safe whatever people type."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from clipmamba.cli.files import collect, plan
from clipmamba.cli.photos import check_result, write_result
from clipmamba.errors import InputError
from clipmamba.io import write_picture


def planned(*inputs: str, output: str | None = None, recursive: bool = True, **options: object):
    """Photo -> result, as text."""
    photos = collect(inputs, recursive=recursive, output=output)
    return [(str(j.photo), j.output) for j in plan(photos, output, label="Ukiyo-e", **options)]


# -- one photo -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photo", "style", "expected"),
    [
        ("a/photo.JPG", "Ukiyo-e", "a/photo-ukiyo-e.JPG"),
        ("photo.gif", "oil  on\ncanvas", "photo-oil-on-canvas.png"),
        ("photo.png", "../../etc/passwd", "photo-etc-passwd.png"),
        ("photo.png", "浮世絵", "photo-浮世絵.png"),
        ("photo.png", "!!!", "photo-stylized.png"),
        ("photo", "sepia", "photo-sepia.png"),
        ("photo.png", "x" * 500, f"photo-{'x' * 40}.png"),
    ],
)
def test_beside_the_photo_by_default(here, photo, style, expected):
    [job] = plan(collect([photo]), label=style)
    assert job.target == Path(expected)


def test_one_photo_to_a_file_or_a_folder(tree):
    assert planned("holiday/a.jpg", output="x.webp") == [("holiday/a.jpg", "x.webp")]
    assert planned("holiday/a.jpg", output="new/") == [("holiday/a.jpg", "new/a.jpg")]
    assert planned("holiday/sub/b.png", output="holiday") == [
        ("holiday/sub/b.png", "holiday/b.png")
    ]


def test_stdin_goes_to_stdout_unless_told_otherwise(here):
    assert planned("-") == [("-", "-")]
    assert planned("-", output="x.png") == [("-", "x.png")]
    assert planned("-", output="new/") == [("-", "new/stdin.png")]
    with pytest.raises(InputError, match="one picture"):
        planned("a.jpg", "b.jpg", output="-")


def test_variants_are_named_by_their_seed(tree):
    assert [o for _, o in planned("holiday/a.jpg", seeds=[7, 8])] == [
        "holiday/a-ukiyo-e-seed7.jpg", "holiday/a-ukiyo-e-seed8.jpg",
    ]  # fmt: skip


# -- many ------------------------------------------------------------------------------------


def test_a_folder_needs_r(tree):
    with pytest.raises(InputError, match="holiday is a folder; add -r"):
        planned("holiday", output="out", recursive=False)


def test_the_tree_is_mirrored_and_names_are_kept(tree):
    assert planned("holiday", output="out") == [
        ("holiday/a.jpg", "out/a.jpg"),
        ("holiday/a.png", "out/a.png"),
        ("holiday/sub/b.png", "out/sub/b.png"),
    ]
    assert not Path("out").exists()


def test_two_folders_keep_their_names(tree):
    Path("other").mkdir()
    Path("other/a.jpg").write_text("")
    outputs = [output for _, output in planned("holiday", "other", output="out")]
    assert outputs == ["out/holiday/a.jpg", "out/holiday/a.png", "out/holiday/sub/b.png",
                       "out/other/a.jpg"]  # fmt: skip


def test_globs_are_expanded_and_mirrored(tree):
    assert planned("holiday/*.jpg", output="out") == [("holiday/a.jpg", "out/a.jpg")]
    names = [output for _, output in planned("holiday/**/*", output="out")]
    assert names == ["out/a.jpg", "out/a.png", "out/sub/b.png"]


def test_a_name_with_brackets_is_a_name(here):
    Path("a[1].jpg").write_text("")
    assert planned("a[1].jpg") == [("a[1].jpg", "a[1]-ukiyo-e.jpg")]


def test_equal_stems_do_not_meet(tree):
    assert [o for _, o in planned("holiday", output="out", suffix=".webp")] == [
        "out/a-jpg.webp", "out/a-png.webp", "out/sub/b.webp",
    ]  # fmt: skip
    Path("holiday/a.gif").write_text("")
    outputs = [o for _, o in planned("holiday/a.png", "holiday/a.gif")]
    assert outputs == ["holiday/a-png-ukiyo-e.png", "holiday/a-gif-ukiyo-e.png"]


def test_equal_names_from_two_folders_are_refused(tree):
    Path("other").mkdir()
    Path("other/a.jpg").write_text("")
    with pytest.raises(InputError, match=r"holiday/a.jpg and other/a.jpg would both be written"):
        planned("holiday/a.jpg", "other/a.jpg", output="out")


def test_a_picture_given_twice_is_taken_once(tree):
    assert len(planned("holiday/a.jpg", "./holiday/a.jpg", "holiday/*.jpg", output="out/")) == 1


def test_the_same_folder_in_and_out_never_replaces_a_photo(tree):
    photos = {str(photo.path) for photo in collect(["holiday"], recursive=True)}
    jobs = planned("holiday", output="holiday", exist="overwrite")
    assert len(jobs) == 3
    assert not photos & {output for _, output in jobs}
    # Hard to see through: the same folder by another name.
    Path("link").symlink_to("holiday", target_is_directory=True)
    jobs = planned("holiday", output="link", exist="overwrite")
    assert not {os.path.realpath(p) for p in photos} & {os.path.realpath(o) for _, o in jobs}


def test_results_of_the_last_run_are_no_photos(tree):
    first = planned("holiday")
    Path(first[0][1]).write_text("")
    assert planned("holiday", exist="skip") == first
    assert planned("holiday/*", exist="skip") == [pair for pair in first if "sub" not in pair[0]]


def test_an_output_folder_inside_is_not_read(tree):
    Path("holiday/out").mkdir()
    Path("holiday/out/old.jpg").write_text("")
    for inputs in (["holiday"], ["holiday/**/*"]):
        assert "holiday/out/old.jpg" not in dict(planned(*inputs, output="holiday/out"))


def test_links_in_a_circle_end(tree):
    Path("holiday/sub/up").symlink_to(tree / "holiday", target_is_directory=True)
    assert len(planned("holiday", output="out")) == 3


# -- what is there already -------------------------------------------------------------------


def test_exist(tree):
    Path("out/sub").mkdir(parents=True)
    Path("out/sub/b.png").write_text("")
    with pytest.raises(InputError, match=r"1 of 3 results exist already.*--exist skip"):
        planned("holiday", output="out")
    photos = collect(["holiday"], recursive=True)
    skipped = plan(photos, "out", label="x", exist="skip")
    assert [job.skip for job in skipped] == [False, False, True]
    again = plan(photos, "out", label="x", exist="overwrite")
    assert not any(job.skip for job in again)


@pytest.mark.parametrize(
    ("output", "words"),
    [("o.png", "one file o.png"), ("file", "file is a file"), ("file/x", "file is a file")],
)
def test_many_pictures_need_a_folder(tree, output, words):
    Path("file").write_text("in the way")
    with pytest.raises(InputError, match=words):
        planned("holiday", output=output)


def test_an_empty_folder_is_said(here):
    Path("empty").mkdir()
    with pytest.raises(InputError, match="no pictures in empty"):
        planned("empty")


# -- what is no photo -------------------------------------------------------------------------


def a_result(name: str, photo, **options: object) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_picture(photo, name, settings={"prompt": "mosaic"}, **options)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "avif"])
def test_results_of_another_style_are_no_photos(tree, photo, capsys, extension: str) -> None:
    before = [str(found) for found in collect(["holiday"], recursive=True)]
    a_result(f"holiday/a-mosaic.{extension}", photo)
    for inputs in ("holiday", "holiday/**/*"):
        assert [str(found) for found in collect([inputs], recursive=True)] == before
        assert "1 result of earlier runs skipped" in capsys.readouterr().err
    named = f"holiday/a-mosaic.{extension}"
    assert [str(found) for found in collect([named])] == [named]


def test_a_result_of_a_photo_with_its_own_comment_is_known_too(tree, photo) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0my holiday"}
    photo.info["exif"] = exif.tobytes()
    a_result("holiday/a-mosaic.jpg", photo)
    assert "holiday/a-mosaic.jpg" not in map(str, collect(["holiday"], recursive=True))


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "avif"])
def test_to_know_a_result_no_picture_is_decoded(here, photo, monkeypatch, extension) -> None:
    photo.save(f"a.{extension}")
    a_result(f"b.{extension}", photo)
    decoded = []
    for kind in {type(Image.open(f"a.{extension}")), ImageFile.ImageFile}:
        monkeypatch.setattr(kind, "load", lambda self: decoded.append(self))
    assert [str(found) for found in collect(["*"])] == [f"a.{extension}"]
    assert not decoded


def test_a_folder_of_nothing_but_results_is_meant(here, photo, capsys) -> None:
    for name in ("out/a.png", "out/b.png"):
        a_result(name, photo)
    assert [str(found) for found in collect(["out"], recursive=True)] == ["out/a.png", "out/b.png"]
    assert capsys.readouterr().err == ""


def test_variants_in_place_do_not_multiply(tree, photo) -> None:
    """Even where results say nothing of how they were made."""
    options = {"seeds": [0, 1], "exist": "skip"}
    first = planned("holiday", **options)
    assert len(first) == 6
    for _ in range(2):
        for _, output in first:
            photo.save(output)
        assert planned("holiday", **options) == first


def test_raw_files_are_counted(tree, capsys) -> None:
    for name in ("holiday/1.NEF", "holiday/2.cr2", "holiday/sub/3.dng"):
        Path(name).write_bytes(b"II*\0")
    for inputs in ("holiday", "holiday/**/*"):
        assert len(collect([inputs], recursive=True)) == 3
        assert "3 RAW files skipped, the first is holiday/1.NEF" in capsys.readouterr().err


# -- places --------------------------------------------------------------------------------------


def test_a_pattern_s_own_folder_may_be_out(tree) -> None:
    os.chdir("holiday")
    assert planned("*.jpg", output=".") == [("a.jpg", "a-ukiyo-e.jpg")]
    os.chdir("..")
    assert planned("holiday/*.jpg", output=".") == [("holiday/a.jpg", "a.jpg")]
    assert planned("holiday/*.jpg", output="holiday") == [
        ("holiday/a.jpg", "holiday/a-ukiyo-e.jpg")
    ]


@pytest.mark.parametrize("pattern", ["*/../../*.jpg", "*/../*.jpg", "[s]ub/../../here/*.jpg"])
def test_no_pattern_leads_out_of_out(here, pattern: str) -> None:
    Path("here/sub").mkdir(parents=True)
    Path("up.jpg").write_text("")
    Path("here/in.jpg").write_text("")
    os.chdir("here")
    outputs = [output for _, output in planned(pattern, output="out")]
    assert outputs
    for output in outputs:
        assert os.path.realpath(output).startswith(os.path.realpath("out") + os.sep)


def test_another_seed_is_another_file(tree) -> None:
    names = [planned("holiday/a.jpg", seeds=[seed])[0][1] for seed in (None, 1, 2)]
    assert names == [f"holiday/a-ukiyo-e{end}.jpg" for end in ("", "-seed1", "-seed2")]
    assert planned("holiday/a.jpg", seeds=[2], output="x.jpg") == [("holiday/a.jpg", "x.jpg")]


@pytest.mark.parametrize("output", [None, "new/", "out"])
def test_a_name_too_long_is_found_before_the_work(here, output) -> None:
    long = f"{'n' * 250}.jpg"
    Path(long).write_text("")
    Path("out").mkdir()
    with pytest.raises(InputError, match="too long"):
        planned(long, output=output, suffix=".webp" if output is None else ".x" * 9)


def test_a_read_only_folder_is_found_before_the_work(tree, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "sub" not in str(path))  # root may all
    with pytest.raises(InputError, match="holiday/sub is not writable; give another with -o"):
        planned("holiday")
    assert len(planned("holiday", output="out")) == 3


@pytest.mark.parametrize("names", [[""], ["a.jpg", ""]])
def test_empty_names_are_refused(here, names: list[str]) -> None:
    with pytest.raises(InputError, match="a name is empty"):
        collect(names)


# -- the result itself -----------------------------------------------------------------------


def test_a_result_made_by_another_run_meanwhile_stays(here, photo) -> None:
    jobs = {
        exist: plan(collect(["a.jpg"]), "out.png", label="x", exist=exist)[0]
        for exist in ("error", "skip", "overwrite")
    }
    Path("out.png").write_text("theirs")
    options = {"stream_format": "png", "metadata": "all", "quality": None, "settings": None}
    assert write_result(jobs["skip"], photo, exist="skip", **options) == "skipped"
    with pytest.raises(InputError, match="exists already"):
        write_result(jobs["error"], photo, exist="error", **options)
    assert Path("out.png").read_text() == "theirs"
    assert write_result(jobs["overwrite"], photo, exist="overwrite", **options) == "written"


@pytest.mark.parametrize(("name", "side"), [("o.webp", 16_384), ("o.jpg", 65_501), ("-", 16_384)])
def test_what_a_format_can_not_hold_is_refused_before_the_work(here, name: str, side: int) -> None:
    [job] = plan(collect(["a.jpg"]), name, label="x")
    with pytest.raises(InputError, match="at most"):
        check_result(job, (side, 8), "webp")
    check_result(job, (side - 1, 8), "webp")
