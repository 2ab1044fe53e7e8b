"""Training from webdataset shards: the same batches as from files, in bounded memory."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.utils.data import DataLoader

from clipmamba.errors import InputError
from clipmamba.train.loop import _Steps
from clipmamba.train.names import Names, write_names
from clipmamba.train.pictures import split_of
from clipmamba.train.shards import list_members
from clipmamba.train.stylizer import batches, commands
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.listing import draw_styles
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.weights import write_tensors

OPTIONS = {"batch": 4, "sides": (64,), "strokes": (0.5, 5.0), "exact": 0, "seed": 3}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a.keys() - {"picture_key"}:  # of the file's name, which the shard is part of
        assert torch.equal(a[name], b[name]), name


def test_what_is_prepared_is_what_the_lists_give(
    prepared: Prepared, prepared_folder: Path, prepared_shards: Path
):
    for listed, folder in (
        (prepared, prepared_shards),
        (Prepared.load(prepared_folder / "validation"), prepared_shards / "validation"),
    ):
        packed = Prepared.load(folder)
        assert sorted(Path(name).name for name in packed.photos) == sorted(listed.photos)
        torch.testing.assert_close(packed.photo_point, listed.photo_point, rtol=0, atol=1e-3)
        points = dict(zip(listed.styles, listed.points.float(), strict=True))
        shared = 0
        for name, point in zip(packed.styles, packed.points.float(), strict=True):
            if (expected := points.get(Path(name).name)) is not None:
                torch.testing.assert_close(point, expected, rtol=0, atol=2e-3)
                shared += 1
        assert shared >= min(6, len(points))  # each drew 8 of 10, or both of 2


def test_batches_are_those_of_the_same_files(data: Path, sharded: Path, prepared_shards: Path):
    packed = Prepared.load(prepared_shards)
    assert all("tar@" in name for name in (*packed.styles, *packed.photos))
    unpacked = dataclasses.replace(
        packed,
        styles=[Path(name).name for name in packed.styles],
        photos=[Path(name).name for name in packed.photos],
    )
    for process in range(2):
        for step in range(5):
            assert_same(
                StylizerBatches(sharded, packed, **OPTIONS).batch(step, process, 2),
                StylizerBatches(data, unpacked, **OPTIONS).batch(step, process, 2),
            )


@pytest.mark.slow
def test_workers_share_the_steps_without_a_change(sharded: Path, prepared_shards: Path):
    source = StylizerBatches(sharded, Prepared.load(prepared_shards), **OPTIONS)
    loader = DataLoader(_Steps(source, 3, 9, 1, 2), batch_size=None, num_workers=2)
    for step, batch in zip(range(3, 9), loader, strict=True):
        assert_same(batch, source.batch(step, 1, 2))


def test_a_folder_prepared_by_an_older_version_gives_the_same_batches(
    data: Path, prepared: Prepared, prepared_folder: Path, tmp_path: Path
):
    """Names were in prepared.json, and the points among the other tensors."""
    tensors = {
        "points": prepared.points, "looks": prepared.looks, "painted": prepared.painted.half(),
        "words": prepared.words.half(), "meant": prepared.meant, "shares": prepared.shares,
        "photo": prepared.photo_point,
    }  # fmt: skip
    write_tensors(tmp_path / "points.safetensors", tensors, {})
    listed = json.loads((prepared_folder / "prepared.json").read_text())
    listed |= {"styles": list(prepared.styles), "photos": list(prepared.photos)}
    (tmp_path / "prepared.json").write_text(json.dumps(listed))
    older = Prepared.load(tmp_path)
    for step in range(5):
        assert_same(
            StylizerBatches(data, older, **OPTIONS).batch(step, 0, 1),
            StylizerBatches(data, prepared, **OPTIONS).batch(step, 0, 1),
        )


def write_shards(folder: Path, kind: str, samples: list[tuple[str, bytes, str]], size: int) -> None:
    """Samples with a name, the bytes of a picture, and words."""
    for start in range(0, len(samples), size):
        with tarfile.open(folder / f"{kind}-{start:06d}.tar", "w") as archive:
            for name, picture, words in samples[start : start + size]:
                for end, content in (("png", picture), ("txt", words.encode())):
                    member = tarfile.TarInfo(f"{name}.{end}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def test_rare_looks_are_preferred_and_those_of_a_handful_are_none(tmp_path: Path):
    looks = ["fauvism"] * 1600 + ["zellige, blue"] * 160 + ["rare"] * 9 + ["painting"] * 20
    samples = [(str(number), b"", look) for number, look in enumerate(looks)]
    write_shards(tmp_path, "style", samples, 500)
    looks, names = draw_styles(tmp_path, tmp_path / "prepared" / "styles", "training", 120, 0)
    styles = Names(tmp_path / "prepared" / "styles")
    assert len(styles) == len(set(styles)) == len(looks) == 120
    assert {split_of(Path(name)) for name in styles} == {"training"}
    words = dict(list_members(tmp_path, "style"))
    assert names == ["fauvism", "zellige"] or names == ["zellige", "fauvism"]
    for name, look in zip(styles, looks, strict=True):
        expected = words[name].split(",")[0]
        assert (names[look] if look >= 0 else "") == (expected if expected in names else "")
    counts = Counter(names[look] for look in looks if look >= 0)
    assert 20 < counts["zellige"] < 40  # 160 ** 0.5 to 1600 ** 0.5, and 27 ** 0.5; evenly it is 11
    again, _ = draw_styles(tmp_path, tmp_path / "again" / "styles", "training", 120, 0)
    assert list(Names(tmp_path / "again" / "styles")) == list(styles)
    assert (again == looks).all()


@pytest.mark.parametrize("lacking", ["style", "content"])
def test_without_pictures_of_a_kind_nothing_is_prepared(
    lacking: str, tmp_path: Path, tiny_clip_folder: Path
):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    kind = {"style": "content", "content": "style"}[lacking]
    write_shards(tmp_path, kind, [(str(n), file.getvalue(), "x") for n in range(20)], 20)
    done = CliRunner().invoke(
        commands.main,
        ["prepare", "--data", str(tmp_path), "--clip", str(tiny_clip_folder), "--painters", "0",
         "--output", str(tmp_path / "prepared")],
    )  # fmt: skip
    assert done.exit_code == 2
    message = done.output.splitlines()[-1]
    assert ("0 style pictures" if lacking == "style" else "no photos") in message
    assert not (tmp_path / "prepared" / "validation").exists()


@pytest.mark.parametrize("option", ["--chosen", "--technique", "--faces"])
def test_chosen_pictures_techniques_and_faces_are_for_lists(
    sharded: Path, tmp_path: Path, option: str
):
    (tmp_path / "chosen.csv").write_text("look,file\n")
    given = {"--chosen": [str(tmp_path / "chosen.csv")], "--technique": ["mosaic", "mosaic"]}
    given["--faces"] = []
    done = CliRunner().invoke(
        commands.main,
        ["prepare", "--data", str(sharded), option, *given[option],
         "--output", str(tmp_path / "prepared")],
    )  # fmt: skip
    assert done.exit_code == 2
    assert f"{option} is for picture lists" in done.output.splitlines()[-1]


def test_techniques_need_a_prior(data: Path, tmp_path: Path):
    done = CliRunner().invoke(
        commands.main,
        ["prepare", "--data", str(data), "--technique", "mosaic", "mosaic",
         "--output", str(tmp_path / "prepared")],
    )  # fmt: skip
    assert done.exit_code == 2
    assert "give --prior" in done.output.splitlines()[-1]


def test_a_shard_that_became_shorter_is_found_at_the_start(
    sharded: Path, prepared_shards: Path, tmp_path: Path
):
    for shard in sharded.glob("*.tar"):
        (tmp_path / shard.name).write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(InputError, match="prepare again"):
        StylizerBatches(tmp_path, Prepared.load(prepared_shards), **OPTIONS)


@pytest.mark.slow
def test_memory_is_flat_over_20_000_pictures(tmp_path: Path):
    """Of 10,000 style pictures and 10,000 photos, as many are read as there are."""
    pytest.importorskip("psutil")
    rng = np.random.default_rng(0)
    for kind in ("style", "content"):
        samples = []
        for number in range(10_000):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
            samples.append((f"{kind}{number}", file.getvalue(), ""))
        write_shards(tmp_path, kind, samples, 1000)
        del samples
    folder = tmp_path / "prepared"
    for kind, stem in (("style", "styles"), ("photo", "photos")):
        write_names(folder / stem, (name for name, _ in list_members(tmp_path, kind)))
    points = torch.nn.functional.normalize(torch.randn(10_000, 2, 16), dim=2)
    Prepared(
        styles=Names(folder / "styles"), points=points, looks=torch.arange(10_000) % 50,
        shares=torch.full((10_000,), 1e-4), photos=Names(folder / "photos"),
        photo_point=points[0, 0], clip="none", painters=None, painted=torch.zeros(0, 16),
        words=torch.zeros(0, 16), meant=torch.zeros(0, dtype=torch.int64),
    ).save(folder)  # fmt: skip
    done = subprocess.run(  # alone, since other tests leave memory to be freed
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late - early < 4e6  # the 16,000 pictures between hold 12 MB, decoded


def read_all(data: Path) -> None:
    """Read 20,000 pictures, and print the memory after 4,000 and after all."""
    import psutil

    torch.set_num_threads(1)
    batches.STYLE_SIDE = 64
    source = StylizerBatches(data, Prepared.load(data / "prepared"), **(OPTIONS | {"batch": 20}))
    for step in range(500):
        batch = source.batch(step, 0, 1)
        assert len(batch["photo"]) == len(batch["picture"]) == 20
        if step in (99, 499):
            sys.stdout.write(f"{psutil.Process().memory_info().rss}\n")


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
