"""Data sets restyled in parts, by two Ray workers of which one is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.integrations.dataset import begin_run, list_parts, read_part, restyle_part

SCRIPT = Path(__file__).parents[2] / "scripts/stylize_dataset.py"


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (number % 256, 99, 7)).save(file, "PNG")
    return file.getvalue()


def write_folder(folder: Path, count: int) -> Path:
    for number in range(count):
        file = folder / f"{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(number))
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
    assert [len(list(read_part(part))) for part in parts] == [4, 4, 2]
    output = tmp_path / "out"
    assert begin_run(output, parts, {}) == parts
    for part in parts:
        restyle_part(part, output, lambda d: d if isinstance(d, bytes) else d.read_bytes(), "png")
    assert begin_run(output, parts, {}) == []
    assert len(set(sources(output))) == len(sources(output)) == 10
    names = [name for names in results(output).values() for name in names]
    assert len(set(names)) == 20
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
    assert not list(tmp_path.glob("*part-*"))
    assert restyle_part(part, tmp_path, lambda _: b"x", "png") == (3, 0)
    assert restyle_part(part, tmp_path, dies, "png") == (0, 0)
    assert len(calls) == 2


def test_failures_are_listed_and_the_rest_goes_on(tmp_path: Path):
    folder = write_shards(tmp_path / "in", 4)
    whole = (folder / "in-000.tar").read_bytes()
    (folder / "in-000.tar").write_bytes(whole[:3000])  # ends in its second sample
    [part] = list_parts(folder)
    assert restyle_part(part, tmp_path, lambda data: data, "png")[1] == 1
    [failure] = (tmp_path / "part-0000000.failures.jsonl").read_text().splitlines()
    assert "in-000.tar" in json.loads(failure)["source"]
    assert len(sources(tmp_path)) >= 1


def test_a_run_with_other_settings_or_files_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path / "in", 3)
    begin_run(tmp_path / "out", list_parts(folder), {"prompt": "a"})
    with pytest.raises(InputError, match="other prompt"):
        begin_run(tmp_path / "out", list_parts(folder), {"prompt": "b"})
    (folder / "new.png").write_bytes(encoded(9))
    with pytest.raises(InputError, match="other files"):
        begin_run(tmp_path / "out", list_parts(folder), {"prompt": "a"})
    (folder / "more.tar").write_bytes(b"")
    with pytest.raises(InputError, match="several kinds"):
        list_parts(folder)


def test_batches_of_bytes(tiny_pipeline_folder: Path):
    from clipmamba.integrations.ray import RestyleBatch

    actor = RestyleBatch({"prompt": "ukiyo-e"}, str(tiny_pipeline_folder), file_format="png")
    batch = {"image": np.array([encoded(1), b"no picture"], object), "id": np.arange(2)}
    done = actor(batch)
    assert Image.open(io.BytesIO(done["restyled"][0])).size == (24, 16)
    assert done["restyled"][1] == b""
    assert done["error"][0] == ""
    assert done["error"][1]
    assert done["id"].tolist() == [0, 1]
    with pytest.raises(InputError, match="format"):
        RestyleBatch({"prompt": "ukiyo-e"}, str(tiny_pipeline_folder), file_format="raw")


def _workers(process: subprocess.Popen[str]) -> Iterator[int]:
    psutil = pytest.importorskip("psutil")
    for child in psutil.Process(process.pid).children(recursive=True):
        if any("RestyleParts" in word for word in child.cmdline()):
            yield child.pid


@pytest.mark.slow
def test_one_of_two_workers_is_killed_and_nothing_is_lost_or_doubled(
    tmp_path: Path, tiny_pipeline_folder: Path
):
    pytest.importorskip("ray")
    folder = write_folder(tmp_path / "in", 120)
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
    while not list(output.glob("part-*.tar")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = list(_workers(process))
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    before = len(list(output.glob("part-*.tar")))
    told, _ = process.communicate(timeout=240)
    assert before < 25, "the kill came too late to say anything"
    assert process.returncode == 1, told  # for the broken one
    assert "2 actors, 1 cores and 0 GPUs each" in told
    wanted = sorted(f"{n % 3}/{n}.png" for n in range(120))
    assert sources(output) == wanted
    assert len(results(output)) == 31
    failed = [json.loads(s) for f in output.glob("*.jsonl") for s in f.read_text().splitlines()]
    assert [failure["source"] for failure in failed] == ["0/broken.png"]
    assert not list(output.glob(".clipmamba-*.jsonl"))

    # Bytes are those of the pipeline in one process, and the same command has nothing to do.
    shards = {f: f.read_bytes() for f in output.glob("part-*.tar")}
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert "0 of 31 parts to do" in again.stdout
    assert {f: f.read_bytes() for f in output.glob("part-*.tar")} == shards
