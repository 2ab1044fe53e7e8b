"""Data sets restyled in parts, by two Ray workers of which one is killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipmamba.cli.files import collect
from clipmamba.errors import InputError
from clipmamba.integrations.dataset import (
    TRIES,
    Part,
    begin_run,
    finish_run,
    list_parts,
    read_part,
    restyle_part,
)
from clipmamba.integrations.ray import (
    PartReport,
    RestyleBatch,
    RestyleSettings,
    pictures_per_second,
)
from clipmamba.pipelines import StylizeOptions
from clipmamba.styles.request import StyleRequest

SCRIPT = Path(__file__).parents[2] / "scripts/stylize_dataset.py"


def encoded(number: int, size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (number % 256, 99, 7)).save(file, "PNG")
    return file.getvalue()


def write_folder(folder: Path, count: int, size: tuple[int, int] = (24, 16)) -> Path:
    for number in range(count):
        file = folder / f"{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(number, size))
    return folder


def write_shards(folder: Path, count: int) -> Path:
    webdataset = pytest.importorskip("webdataset")
    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/in-%03d.tar", maxcount=4, verbose=0) as writer:
        for number in range(count):
            writer.write({"__key__": f"k{number}", "png": encoded(number), "txt": "a caption"})
    return folder


def write_parquet(folder: Path, count: int) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    folder.mkdir()
    table = pa.table({"image": [encoded(number) for number in range(count)]})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=4)
    return folder


def results(output: Path) -> dict[str, list[str]]:
    """Names in each shard; each picture must be one that opens."""
    found = {}
    for shard in sorted(output.glob("part-*.tar")):
        with tarfile.open(shard) as archive:
            found[shard.name] = archive.getnames()
            for member in archive:
                if not member.name.endswith(".json"):
                    Image.open(archive.extractfile(member)).load()
    return found


def sources(output: Path) -> list[str]:
    """Where the restyled pictures came from."""
    listed = []
    for shard in output.glob("part-*.tar"):
        with tarfile.open(shard) as archive:
            notes = [m for m in archive if m.name.endswith(".json")]
            listed += [json.load(archive.extractfile(note))["source"] for note in notes]
    return sorted(listed)


@pytest.mark.parametrize("write", [write_folder, write_shards, write_parquet])
def test_every_picture_comes_once_from_each_kind_of_set(write, tmp_path: Path):
    parts = list_parts(write(tmp_path / "in", 10), files_per_part=4)
    assert [Part.from_json(part.to_json()) for part in parts] == parts
    assert [len(list(read_part(part))) for part in parts] == [4, 4, 2]
    output = tmp_path / "out"
    assert begin_run(output, parts, {}) == parts
    for part in parts:
        restyle_part(part, output, lambda d: d if isinstance(d, bytes) else d.read_bytes(), "png")
    assert begin_run(output, parts, {}) == []
    assert len(set(sources(output))) == len(sources(output)) == 10
    names = [name for names in results(output).values() for name in names]
    assert len(set(names)) == 20
    assert finish_run(output, parts) == (0, 0)
    red = set()
    for shard in output.glob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                if member.name.endswith(".png"):
                    red.add(Image.open(archive.extractfile(member)).getpixel((0, 0))[0])
    assert red == set(range(10))


def test_results_are_what_webdataset_reads(tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    [part] = list_parts(write_folder(tmp_path / "in", 3))
    restyle_part(part, tmp_path, lambda d: Path(d).read_bytes(), "png")
    read = list(webdataset.WebDataset(str(tmp_path / "part-0000000.tar"), shardshuffle=False))
    assert [json.loads(sample["json"])["source"] for sample in read] == [
        "0/0.png", "1/1.png", "2/2.png",
    ]  # fmt: skip
    assert [sample["png"] for sample in read] == [encoded(number) for number in range(3)]


def test_a_killed_part_leaves_no_shard_and_a_whole_one_is_not_done_again(tmp_path: Path):
    [part] = list_parts(write_folder(tmp_path / "in", 3))
    calls = []

    def dies(data: object) -> bytes:
        calls.append(data)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return b"x"

    with pytest.raises(KeyboardInterrupt):
        restyle_part(part, tmp_path, dies, "png")
    assert not [*tmp_path.glob("part-*"), *tmp_path.glob(".clipmamba-*")]
    assert finish_run(tmp_path, [part]) == (1, 0)
    assert restyle_part(part, tmp_path, lambda _: b"x", "png") == (3, 0)
    assert restyle_part(part, tmp_path, dies, "png") == (0, 0)
    assert len(calls) == 2


def test_a_part_that_kills_its_worker_again_and_again_is_left_out(tmp_path: Path):
    first, deadly, last = list_parts(write_folder(tmp_path / "in", 3), files_per_part=1)
    output = tmp_path / "out"
    calls = []

    def dies(data: object) -> bytes:
        calls.append(data)
        raise KeyboardInterrupt

    for _ in range(2):  # a new run tries again
        begin_run(output, [first, deadly, last], {})
        for _ in range(TRIES):
            with pytest.raises(KeyboardInterrupt):
                restyle_part(deadly, output, dies, "png")
        assert restyle_part(deadly, output, dies, "png") == (0, 0)
        for part in (first, last):
            restyle_part(part, output, lambda _: b"x", "png")
        assert finish_run(output, [first, deadly, last]) == (1, 0)
    assert len(calls) == 2 * TRIES
    begin_run(output, [first, deadly, last], {})
    assert restyle_part(deadly, output, lambda _: b"x", "png") == (1, 0)
    assert finish_run(output, [first, deadly, last]) == (0, 0)
    assert not list(output.glob(".*"))


def test_failures_are_listed_and_the_rest_goes_on(tmp_path: Path):
    folder = write_shards(tmp_path / "in", 4)
    whole = (folder / "in-000.tar").read_bytes()
    (folder / "in-000.tar").write_bytes(whole[:3000])  # ends in its second sample
    [part] = list_parts(folder)
    assert restyle_part(part, tmp_path, lambda data: data, "png")[1] == 1
    [failure] = (tmp_path / "part-0000000.failures.jsonl").read_text().splitlines()
    assert "in-000.tar" in json.loads(failure)["source"]
    assert len(sources(tmp_path)) >= 1
    assert finish_run(tmp_path, [part]) == (0, 1)


@pytest.mark.parametrize(
    "lack",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_picture_that_does_not_fit_in_memory_fails_alone(tmp_path: Path, lack: Exception):
    [part] = list_parts(write_folder(tmp_path / "in", 3))

    def restyle(data: object) -> bytes:
        if Path(str(data)).name == "1.png":
            raise lack
        return b"x"

    assert restyle_part(part, tmp_path, restyle, "png") == (2, 1)
    assert sources(tmp_path) == ["0/0.png", "2/2.png"]
    [failure] = (tmp_path / "part-0000000.failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["source"] == "1/1.png"
    assert "does not fit in memory; give a smaller max_size" in json.loads(failure)["error"]
    assert finish_run(tmp_path, [part]) == (0, 1)


def test_a_row_group_that_does_not_fit_in_memory_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    [part] = list_parts(write_parquet(tmp_path / "in", 2))

    def too_large(*_: object) -> object:
        raise MemoryError("malloc of size 99 failed")

    monkeypatch.setattr("clipmamba.integrations.dataset._rows", too_large)
    assert restyle_part(part, tmp_path, lambda data: data, "png") == (0, 1)
    assert "malloc of size 99 failed" in (tmp_path / "part-0000000.failures.jsonl").read_text()


def test_a_broken_gpu_is_no_failure_of_a_picture(tmp_path: Path):
    [part] = list_parts(write_folder(tmp_path / "in", 2))

    def restyle(_: object) -> bytes:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        restyle_part(part, tmp_path, restyle, "png")
    assert finish_run(tmp_path, [part]) == (1, 0)


def test_failures_of_a_killed_try_are_forgotten(tmp_path: Path):
    [part] = list_parts(write_folder(tmp_path / "in", 3))
    (tmp_path / "part-0000000.failures.jsonl").write_text("{}\n")
    restyle_part(part, tmp_path, lambda _: b"x", "png")
    assert finish_run(tmp_path, [part]) == (0, 0)


@pytest.mark.parametrize(
    ("names", "sources_of"),
    [
        (["a.PNG", "a.seg.png", "a.json", "b/c.png"], ["a.PNG", "b/c.png"]),
        (["a.txt"], []),
        ([], []),
    ],
)
def test_a_shard_gives_one_picture_per_sample_and_none_is_a_failure(
    tmp_path: Path, names: list[str], sources_of: list[str]
):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/x.tar", "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(encoded(1))
            archive.addfile(member, io.BytesIO(encoded(1)))
    [part] = list_parts(tmp_path / "in")
    restyle_part(part, tmp_path, lambda data: data, "jpg")
    assert sources(tmp_path) == [f"x.tar/{name}" for name in sources_of]
    assert finish_run(tmp_path, [part]) == (0, not names or not sources_of)


def mixed_files(folder: Path) -> Path:
    """A picture of every kind that counts as one, and files that do not."""
    folder.mkdir()
    kinds = "png jpg JPEG webp tif tiff avif heic heif gif bmp ppm pgm jp2 jfif"
    for number, kind in enumerate(kinds.split()):
        (folder / f"{number}.{kind}").write_bytes(b"x")
    for name in ("1.NEF", "2.dng", "._0.png", ".thumbs/0.png", "notes.txt", "0.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_set_has_the_pictures_that_the_command_line_restyles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    folder = mixed_files(tmp_path / "in")
    [part] = list_parts(folder)
    assert len(part.files) == 15
    assert set(part.files) == {str(photo) for photo in collect([str(folder)], recursive=True)}
    assert f"2 RAW files skipped, the first is {folder}/1.NEF" in capsys.readouterr().err
    [warning] = caplog.messages
    assert warning.startswith(f"2 RAW files skipped, the first is {folder}/1.NEF; develop")

    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/a.TAR", "w") as archive:
        for file in sorted(folder.glob("[!.]*")):
            archive.add(file, file.name)
    caplog.clear()
    [shard] = list_parts(tmp_path / "shards")
    restyle_part(shard, tmp_path, lambda _: b"x", "jpg")
    names = {Path(source).name for source in sources(tmp_path)}
    assert names == {Path(name).name for name in part.files}
    assert caplog.messages == [
        "2 RAW files skipped, the first is a.TAR/1.NEF; develop them to JPEG or TIFF first"
    ]


@pytest.mark.parametrize("write", [write_folder, write_shards])
def test_results_inside_the_data_are_not_searched(write, tmp_path: Path):
    folder = write(tmp_path / "in", 6)
    output = folder / "restyled"
    before = list_parts(folder, 4, output=output)
    assert begin_run(output, before, {}) == before
    restyle_part(before[0], output, lambda _: b"x", "png")
    again = list_parts(folder, 4, output=output)
    assert begin_run(output, again, {}) == before[1:]
    assert list_parts(folder, 4, output=folder / "other") == before  # nor those of another run
    assert list_parts(output) == list_parts(output, output=folder / "other")
    assert [Path(part.files[0]).name for part in list_parts(output)] == ["part-0000000.tar"]
    with pytest.raises(InputError, match="a folder of their own"):
        list_parts(folder, output=folder)


def test_what_no_set_is_made_of_is_refused(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"can't read .*a\.parquet"):
        list_parts(tmp_path)
    (tmp_path / "none").mkdir()
    write_parquet(tmp_path / "in", 4)
    with pytest.raises(InputError, match="--column names one of: image"):
        list_parts(tmp_path / "in", column="photo")
    with pytest.raises(InputError, match="no pictures, tar or parquet"):
        list_parts(tmp_path / "none")


def test_a_run_with_other_settings_or_files_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path / "in", 3)
    settings = {"prompt": ("a", "b"), "seed": None}
    begin_run(tmp_path / "out", list_parts(folder), settings)
    assert len(begin_run(tmp_path / "out", list_parts(folder), settings)) == 1
    with pytest.raises(InputError, match="other prompt"):
        begin_run(tmp_path / "out", list_parts(folder), settings | {"prompt": ("b",)})
    (folder / "new.png").write_bytes(encoded(9))
    with pytest.raises(InputError, match="other files"):
        begin_run(tmp_path / "out", list_parts(folder), settings)
    (folder / "more.tar").write_bytes(b"")
    with pytest.raises(InputError, match="several kinds"):
        list_parts(folder)


def test_batches_of_bytes(tiny_pipeline_folder: Path):
    style = StyleRequest.parse("ukiyo-e")
    settings = RestyleSettings(style, model=str(tiny_pipeline_folder), file_format="png")
    batch = {"image": np.array([encoded(1), b"no picture"], object), "id": np.arange(2)}
    done = RestyleBatch(settings, device="cpu")(batch)
    assert Image.open(io.BytesIO(done["restyled"][0])).size == (24, 16)
    assert done["restyled"][1] == b""
    assert done["error"][0] == ""
    assert done["error"][1]
    assert done["id"].tolist() == [0, 1]


def test_a_batch_survives_what_does_not_fit_in_memory(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = RestyleSettings(StyleRequest.parse("ukiyo-e"), model=str(tiny_pipeline_folder))
    worker = RestyleBatch(settings, device="cpu")
    restyle = worker.pipeline.restyle

    def too_large(photos: list[Image.Image], *rest: object) -> object:
        if photos[0].width > 30:
            raise RuntimeError("CUDA out of memory")
        return restyle(photos, *rest)

    monkeypatch.setattr(worker.pipeline, "restyle", too_large)
    batch = {"image": np.array([encoded(1, (40, 16)), encoded(2)], object)}
    done = worker(batch)
    assert "does not fit in memory" in done["error"][0]
    assert done["restyled"][0] == b""
    assert done["error"][1] == ""
    assert Image.open(io.BytesIO(done["restyled"][1])).size == (24, 16)


RAY_DATA = """
import sys
import ray.data
from clipmamba.integrations.ray import RestyleBatch, RestyleSettings
from clipmamba.styles.request import StyleRequest

ray.init(num_cpus=2, include_dashboard=False)
settings = RestyleSettings(StyleRequest.parse("ukiyo-e"), model=sys.argv[2])
ray.data.read_binary_files(sys.argv[1], include_paths=True).map_batches(
    RestyleBatch,
    fn_constructor_kwargs={"settings": settings, "column": "bytes", "threads": 1},
    batch_size=2,
    compute=ray.data.ActorPoolStrategy(size=1),
    num_cpus=1,
).write_parquet(sys.argv[3])
"""


@pytest.mark.slow
def test_the_actor_in_a_data_set_of_ray(tmp_path: Path, tiny_pipeline_folder: Path):
    pytest.importorskip("ray")
    import pyarrow.parquet

    folder = write_folder(tmp_path / "in", 5)
    (folder / "0/broken.png").write_bytes(b"no picture")
    done = subprocess.run(
        [sys.executable, "-c", RAY_DATA, folder, tiny_pipeline_folder, tmp_path / "out"],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "RAY_worker_niceness": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert len({row["path"] for row in rows}) == len(rows) == 6
    for row in rows:
        if "broken" in row["path"]:
            assert row["restyled"] == b""
            assert row["error"]
        else:
            assert Image.open(io.BytesIO(row["restyled"])).size == (24, 16)
            assert row["error"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_format": "raw"}, "format"),
        ({"quality": 0}, "quality"),
        ({"options": StylizeOptions(variants=2)}, "one variant"),
    ],
)
def test_settings_that_can_not_be_used_are_refused_before_any_worker(options, message):
    with pytest.raises(InputError, match=message):
        RestyleSettings(StyleRequest.parse("ukiyo-e"), **options)


def command(*words: object) -> Result:
    """Run the script without Ray; it returns what would be restyled, and how."""
    script = runpy.run_path(str(SCRIPT))
    script["main"].callback.__globals__["_restyle"] = lambda *_: None
    return CliRunner().invoke(script["main"], [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--files-per-part", 0], "0 is not in the range x>=1"),
        (["--files-per-part", -1], "-1 is not in the range x>=1"),
        (["--num-cpus", 0], "0 is not in the range x>=1"),
        (["--num-cpus", 2, "--address", "auto"], "leave one out"),
        (["--address", "127.0.0.1:1"], "at 127.0.0.1:1: Connection refused"),
        (["--address", "ray://127.0.0.1:1"], "at ray://127.0.0.1:1: Connection refused"),
        (["--model", "nowhere"], "no model folder nowhere"),
        (["--output", "/proc/xx"], "can't use the folder /proc/xx: No such file or directory"),
        (["--output", "IN/0/0.png/out"], "Not a directory"),
        (["--output", "IN"], "holds the data set; give the results a folder of their own"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_nothing(tmp_path: Path, words, message):
    folder = write_folder(tmp_path / "in", 2)
    words = [str(word).replace("IN", str(folder)) for word in words]
    output = [] if "--output" in words else ["--output", tmp_path / "out"]
    result = command("--data", folder, "-p", "ukiyo-e", *output, *words)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [([], None), (["--preserve-color"], True), (["--no-preserve-color"], False)],
)
def test_the_colors_are_an_option_of_the_run(tmp_path: Path, words, wanted):
    write_folder(tmp_path / "in", 1)
    given = ["--data", tmp_path / "in", "--output", tmp_path / "out", "-p", "watercolor"]
    assert "1 of 1 parts" in command(*given, *words).stdout
    assert json.loads((tmp_path / "out/run.json").read_text())["preserve_color"] is wanted
    other = command(*given, *([] if words else ["--preserve-color"]))
    assert other.exit_code == 2
    assert "other preserve_color" in other.stderr


def test_a_damaged_record_of_a_run_is_one_line(tmp_path: Path):
    parts = list_parts(write_folder(tmp_path / "in", 1))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"can't read .*run\.json"):
        begin_run(tmp_path, parts, {})
    with pytest.raises(InputError, match="at least 1"):
        list_parts(tmp_path / "in", files_per_part=0)


def test_throughput_is_that_of_the_workers_without_their_start():
    reports = [
        PartReport(0, 10, 0, "a", 0, 5), PartReport(1, 10, 0, "a", 5, 10),
        PartReport(2, 12, 1, "b", 6, 10), PartReport(3, 0, 0, "c", 9, 9),
    ]  # fmt: skip
    assert pictures_per_second(reports) == pytest.approx(2 + 3)


def workers_at(output: Path) -> list[int]:
    """Processes that are writing a part."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(Path(file.path).parent == output for file in process.open_files()):
                found.append(process.pid)
    return found


@pytest.mark.slow
def test_one_of_two_workers_is_killed_and_nothing_is_lost_or_doubled(
    tmp_path: Path, tiny_pipeline_folder: Path
):
    pytest.importorskip("ray")
    folder = write_folder(tmp_path / "in", 60, (640, 480))  # large: time to see both at work
    (folder / "0/broken.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--data", str(folder), "--output", str(output)]
    command += ["-p", "ukiyo-e", "--model", str(tiny_pipeline_folder), "--files-per-part", "4"]
    command += ["--num-cpus", "2", "--cores", "1", "--format", "png"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},  # else a busy machine starves them
    )
    deadline = time.monotonic() + 240
    try:
        while len(workers := workers_at(output)) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = len(list(output.glob("part-*.tar")))
        if process.poll() is None:
            os.kill(workers[0], signal.SIGKILL)
        log, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert len(workers) == 2, log
    assert before < 14, "the kill came too late to say anything"
    assert process.returncode == 1, log  # for the broken one
    assert "actors: 2, each with 1 cores and 0 GPUs" in log
    assert "1 pictures failed" in log
    assert sources(output) == sorted(f"{n % 3}/{n}.png" for n in range(60))
    assert len(results(output)) == 16
    failed = [json.loads(s) for f in output.glob("*.jsonl") for s in f.read_text().splitlines()]
    assert [failure["source"] for failure in failed] == ["0/broken.png"]
    assert not list(output.glob(".*"))

    # One process gives the same bytes, and the same command has nothing to do.
    shards = {file: file.read_bytes() for file in output.glob("part-*.tar")}
    style = StyleRequest.parse("ukiyo-e")
    settings = RestyleSettings(style, model=str(tiny_pipeline_folder), file_format="png")
    (tmp_path / "alone").mkdir()
    part = list_parts(folder, 4)[0]
    alone = RestyleBatch(settings, device="cpu", threads=1)  # as each of the workers
    restyle_part(part, tmp_path / "alone", alone.restyle, "png")
    name = f"{part.name}.tar"
    assert (tmp_path / "alone" / name).read_bytes() == shards[output / name]
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert "0 of 16 parts to restyle" in again.stdout
    assert {file: file.read_bytes() for file in output.glob("part-*.tar")} == shards
