"""scripts/bench_refine.py runs at tiny size, and its sums are right."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/bench_refine.py")))


def test_it_measures_pictures(script, tmp_path, tiny_pipeline_folder, other_clip_folder, photo):
    (tmp_path / "photos").mkdir()
    photo.resize((96, 64)).save(tmp_path / "photos/ramp.png")
    words = ["--photos", tmp_path / "photos", "--count", 2, "--size", 96, "--steps", 3, "--set",
             "crops=2", "--set", "rate=0.3", "--model", tiny_pipeline_folder,
             "--judge-clip", other_clip_folder, "--from-scratch", "--most", 4,
             "--threads", torch.get_num_threads(), "--output", tmp_path / "out"]  # fmt: skip
    done = CliRunner().invoke(script.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "similarity rises in" in done.stdout
    assert "from scratch: the same loss in" in done.stdout
    with (tmp_path / "out/rows.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == ["ramp", "ramp"]
    assert len({row["prompt"] for row in rows}) == 2
    [strip, _] = sorted((tmp_path / "out").glob("*.png"))
    assert Image.open(strip).size == (3 * 96, 64)


def test_the_judge_is_not_the_one_that_is_pleased(script, tiny_pipeline_folder, tiny_clip_folder):
    words = ["--model", str(tiny_pipeline_folder), "--judge-clip", str(tiny_clip_folder)]
    done = CliRunner().invoke(script.main, words)
    assert done.exit_code != 0
    assert "another encoder" in done.output + str(done.exception)


def test_the_summary_counts(script):
    def row(after: float, edges: float, flecks: float, scratch: int) -> object:
        pairs = {"loss": (1.0, 0.5), "similarity": (0.3, after), "chance": None}
        pairs |= {"edges": (0.5, edges), "flecks": (1.2, flecks)}
        return script.Row("a", "b", 12.0, 60, **pairs, scratch=scratch)

    rows = [row(0.4, 0.5, 1.2, 600), row(0.2, 0.4, 2.0, 0), row(0.31, 0.48, 1.2, 300)]
    text = "\n".join(script.summary(rows))
    assert "median 12.0" in text
    assert "similarity rises in 2 of 3" in text
    assert "edges kept within 5 % in 2 of 3" in text
    assert "no new flecks in 2 of 3" in text
    assert "the same loss in 2 of 3, 7.5 times the steps" in text
    assert "chance" not in text


def test_the_network_from_scratch_fits_any_size(script):
    photo = torch.rand(1, 3, 37, 50)
    made = script.StyleNet()(photo)
    assert made.shape == photo.shape
    assert made.min() >= 0
    assert made.max() <= 1
