"""The pieces of scripts/induction_heads.py."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import torch

ROOT = Path(__file__).parents[1]
TINY = {"first_length": 8, "length": 16, "batch": 32, "rate": 5e-3}


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/induction_heads.py")))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [3, 4, 64])
def test_the_answer_follows_the_first_special_token(script, length):
    tokens, wanted = script.draw(500, length, seeded(0))
    assert tokens.shape == (500, length)
    places = set()
    for row, answer in zip(tokens.tolist(), wanted.tolist(), strict=True):
        assert row.count(script.SPECIAL) == 2
        assert row[-1] == script.SPECIAL
        place = row.index(script.SPECIAL)
        assert row[place + 1] == answer != script.SPECIAL
        places.add(place)
    assert places == set(range(length - 2))  # anywhere, so that the answer never is the end itself
    assert set(wanted.tolist()) == set(range(script.VOCABULARY - 1))
    assert set(tokens.flatten().tolist()) == set(range(script.VOCABULARY))


@pytest.mark.parametrize("piece", [1, 7, 40, 100])
def test_streamed_is_whole(script, piece):
    torch.manual_seed(0)
    model = script.InductionModel(dim=16, state=4, steps=(0.001, 0.1))
    tokens, _ = script.draw(3, 40, seeded(1))
    whole = model(tokens)
    assert (model.stream(tokens, piece) - whole).norm() <= 1e-5 * whole.norm()


def test_it_learns_at_once_what_is_short(script, tmp_path):
    training = script.Training(script.Recipe(steps=400, **TINY), tmp_path, "cpu")
    while training.length < 16 and training.step < 400:  # 155 steps, whatever the seed
        training._one_step()
    assert training.length == 16  # 95 % of eight tokens were right; one in fifteen is by chance
    assert script.accuracy(training.model, 12, 64, "cpu") > 50


def test_a_stopped_training_goes_on_as_if_it_had_not(script, tmp_path, monkeypatch):
    recipes = [script.Recipe(steps=steps, **TINY) for steps in (6, 12)]
    folders = [tmp_path / name for name in ("stopped", "whole")]
    for folder in folders:
        folder.mkdir()
    script.Training(recipes[0], folders[0], "cpu").run()
    stopped, whole = (script.Training(recipes[1], folder, "cpu") for folder in folders)
    assert stopped.step == 6
    stopped.run()
    whole.run()
    assert stopped.step == whole.step == 12
    assert list(stopped.right) == list(whole.right)
    for a, b in zip(stopped.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_recipe_is_refused(script, tmp_path):
    script.Training(script.Recipe(steps=1, **TINY), tmp_path, "cpu").run()
    with pytest.raises(click.ClickException, match="take another --output"):
        script.Training(script.Recipe(steps=1, seed=1, **TINY), tmp_path, "cpu")


def test_rows_are_tested_once(script, tmp_path, monkeypatch):
    calls = []

    def count(model, length, sequences, device):
        calls.append(length)
        return 50.0

    monkeypatch.setitem(script.test.__globals__, "accuracy", count)
    training = SimpleNamespace(model=None, step=3, device="cpu")
    lines = script.test(training, tmp_path / "results.json", 8)
    assert lines[2:] == [f"| 2^{power} | 512 | 50.00 | 100 |" for power in (6, 7, 8)]
    assert script.test(training, tmp_path / "results.json", 9)[2:5] == lines[2:]
    assert calls == [64, 128, 256, 512]
    training.step = 4  # another model
    script.test(training, tmp_path / "results.json", 6)
    assert calls[4:] == [64]
