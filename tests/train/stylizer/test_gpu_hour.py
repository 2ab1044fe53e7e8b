"""scripts/gpu_hour.py, small and on the CPU, without the libraries that its machine lacks."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from clipmamba.models import Stylizer
from clipmamba.train.stylizer.prepared import Prepared

SCRIPT = Path(__file__).parents[3] / "scripts" / "gpu_hour.py"
LOOK = 2  # row of the only picture of a look that words mean
MISSING = ("accelerate", "diffusers", "open_clip", "ftfy", "wcwidth", "importlib_metadata")
BLOCKED = (
    f"import sys; sys.modules.update(dict.fromkeys({MISSING!r})); import runpy; "
    f"sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run(*words: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, words)],
        capture_output=True, text=True, timeout=400, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture
def full_folder(prepared_folder: Path, tmp_path: Path) -> Path:
    """The prepared folder with words for both painters and for one look; the painters take turns.

    Every other photo has a face, whose right end is the photo's row.
    """
    folder = tmp_path / "full"
    shutil.copytree(prepared_folder, folder)
    prepared = Prepared.load(folder)
    faces = torch.tensor([[row, 0, 0, row / 100, 1] for row in range(0, len(prepared.photos), 2)])
    looks = torch.full_like(prepared.looks, -1)
    looks[LOOK] = 0
    words = F.normalize(torch.randn(3, 16), dim=1)
    spoken = dataclasses.replace(
        prepared, faces=faces, looks=looks, words=words, meant=torch.tensor([-1, -2, 0])
    )
    spoken.save_tables(folder)
    np.save(folder / "painters" / "numbers.npy", np.arange(len(prepared.painters)) % 2)
    return folder


@pytest.mark.slow
def test_half_an_hour_in_small(data: Path, full_folder: Path, vgg_weights: Path, tmp_path: Path):
    packed, output = tmp_path / "packed", tmp_path / "out"
    before = Prepared.load(full_folder)
    painter = before.painters.styles[1].name
    run("pack", "--data", data, "--prepared", full_folder, "--vgg", vgg_weights,
        "--output", packed, "--styles", 5, "--photos", 4, "--pairs", 3, "--part", 1.3,
        "--painter", painter)  # fmt: skip
    parts = sorted(packed.glob("*.tar"))
    assert len(parts) > 1
    assert all(part.stat().st_size <= 1.3e6 for part in parts)
    with tarfile.open(parts[0]) as archive:
        assert all(not name.startswith("/") for name in archive.getnames())

    run("check", "--output", output, "--device", "cpu", "--tiny")
    report = json.loads((output / "check.json").read_text())
    compared = [row for row in report["scan"] if "declined" not in row]
    assert len([row for row in compared if row["backend"] == "torch"]) == 6
    assert all(0 <= error < 0.1 for row in compared for error in row["errors"].values())
    assert all(row["good"] for row in (*report["scan"], *report["stylizer"]))

    run("bench", "--output", output, "--device", "cpu", "--tiny", "--no-compile")
    report = json.loads((output / "bench.json").read_text())
    assert all(row["good"] for row in (*report["scan"], *report["stylizer"]))
    assert all(row["forward_ms"] > 0 for row in report["scan"])

    start = tmp_path / "start"
    Stylizer(16, before.clip, (8, 8, 8), 1, code_dim=16, noise_scale=0.5).save_pretrained(start)
    options = ("train", "--packed", packed, "--output", output, "--device", "cpu", "--tiny",
               "--init", start, "--painter", painter, "--words", 0.8, "--strokes", 1, 2.4,
               "--anchors", "--adversarial", 1, "--lattice", 0,
               "--steps", 2, "--batch", 4, "--exact", 1, "--side", 64, "--workers", 0)  # fmt: skip
    assert "step 1 of 2" in run(*options, "--minutes", 0)
    first = Stylizer.from_pretrained(output / "stylizer")
    assert "step 2 of 2" in run(*options)
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["samples_per_second"] > 0 for line in lines)
    assert all("adversarial" in line and "lattice" not in line for line in lines)  # its weight is 0
    second = Stylizer.from_pretrained(output / "stylizer")
    assert second.config.noise_scale == 1  # training decides how much noise each style needs
    assert second.config.anchors == 2  # of the look and of the painter
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    names = {name for file in output.glob("weights-*") for name in load_file(file)}
    assert "discriminator.score.bias" in names
    assert "other options" in run(*options, "--adversarial", 0, code=1)
    prepared = Prepared.load(packed / "unpacked" / "prepared")
    assert (len(prepared.styles), len(prepared.photos), len(prepared.painters)) == (5, 4, 3)
    assert before.styles[LOOK] in prepared.styles
    assert prepared.painters.numbers.tolist() == [1, 1, 1]
    assert len(prepared.faces) > 0
    for row, *box in prepared.faces.tolist():
        assert before.photos[round(100 * box[2])] == prepared.photos[int(row)]
    assert all(file.stat().st_size < 16 << 20 for file in output.rglob("*") if file.is_file())

    fresh = tmp_path / "fresh"
    run("train", "--packed", packed, "--output", fresh, "--device", "cpu", "--tiny", "--steps", 1,
        "--batch", 2, "--exact", 1, "--side", 64, "--workers", 0)  # fmt: skip
    assert Stylizer.from_pretrained(fresh / "stylizer").config.style_dim == 16

    run("sheet", "--packed", packed, "--output", output, "--device", "cpu")
    with Image.open(output / "sheet" / "sheet.png") as sheet:
        assert sheet.width > 3 * 256
