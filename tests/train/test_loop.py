from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.train.loop import LoopConfig, latest_checkpoint, read_log, train

NEVER = 1e9


class Line(nn.Module):
    """Learns y = 3 x - 1, with noise that it draws itself."""

    def __init__(self, noise: float = 0.1):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.noise = noise
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = batch["x"]
        wanted = 3 * x - 1 + self.noise * torch.randn_like(x)
        return {
            "fit": (self.layer(x) - wanted).square().mean(),
            "size": self.layer.weight.abs().sum(),
        }


class Points:
    """Batches by step number; raises at one of them, as a kill would."""

    def __init__(self, die_at: int | None = None):
        self.die_at = die_at
        self.steps: list[int] = []

    def batch(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        if step == self.die_at:
            raise KeyboardInterrupt
        self.steps.append(step)
        return {"x": torch.randn(16, 1, generator=torch.Generator().manual_seed(step))}


def config(output: Path, **options) -> LoopConfig:
    defaults = {
        "steps": 24, "learning_rate": 0.3, "warmup": 4, "ema": 0.9, "log_every": 4,
        "save_minutes": NEVER, "precision": "no",
    }  # fmt: skip
    return LoopConfig(output, **(defaults | options))


def run(source: Points, settings: LoopConfig, **options) -> dict[str, Tensor]:
    """Trains a new task, with the loss on the fit alone."""
    task = train(Line(), source, settings, weights={"size": 0.0}, **options)
    return {name: value.cpu().clone() for name, value in task.state_dict().items()}


def killed_at(step: int, settings: LoopConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Points(die_at=step), settings)


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), (name, a[name], b[name])


def test_it_learns(tmp_path: Path):
    weights = run(Points(), config(tmp_path, steps=200))
    assert weights["layer.weight"].item() == pytest.approx(3, abs=0.2)
    assert weights["layer.bias"].item() == pytest.approx(-1, abs=0.2)
    losses = [line["fit"] for line in read_log(tmp_path / "log.jsonl")]
    assert losses[-1] < 0.1 * losses[0]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    whole = run(Points(), config(tmp_path / "whole"))
    killed = config(tmp_path / "killed", save_minutes=0)
    killed_at(13, killed)
    rest = Points()
    resumed = run(rest, killed)
    assert rest.steps == list(range(13, 24))  # nothing lost, nothing twice
    assert_equal(resumed, whole)
    first = [line["fit"] for line in read_log(tmp_path / "whole" / "log.jsonl")]
    second = [line["fit"] for line in read_log(tmp_path / "killed" / "log.jsonl")]
    assert first == second


def test_only_the_last_interval_is_lost(tmp_path: Path):
    """A checkpoint at step 1, a kill at 13: the run goes on at 1, and its log tells one story."""
    settings = config(tmp_path, log_every=2)
    run(Points(), dataclasses.replace(settings, minutes=0))  # step 1, checkpoint
    killed_at(13, settings)
    assert latest_checkpoint(tmp_path).name == "checkpoint-0000001"
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 14, "minu')  # the kill came while a line was written
    rest = Points()
    run(rest, settings)
    assert rest.steps == list(range(1, 24))
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == list(range(2, 25, 2))


def test_half_a_checkpoint_is_no_checkpoint(tmp_path: Path):
    settings = config(tmp_path, save_minutes=0)
    killed_at(7, settings)
    left = tmp_path / "checkpoint-0000099.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    rest = Points()
    run(rest, settings)
    assert rest.steps[0] == 7
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert names == ["checkpoint-0000023", "checkpoint-0000024"]


def test_a_time_limit_stops_after_a_checkpoint(tmp_path: Path):
    for step in (1, 2, 3):
        run(Points(), config(tmp_path, minutes=0))
        assert latest_checkpoint(tmp_path).name == f"checkpoint-{step:07d}"


def test_a_finished_run_is_left_as_it_is(tmp_path: Path):
    first = run(Points(), config(tmp_path))
    again = Points()
    assert_equal(run(again, config(tmp_path)), first)
    assert_equal(run(again, config(tmp_path, steps=10)), first)
    assert again.steps == []


def test_the_log_has_every_loss_and_the_schedule(tmp_path: Path):
    run(Points(), config(tmp_path, log_every=1))
    lines = list(read_log(tmp_path / "log.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert set(lines[0]) == {"step", "minutes", "learning_rate", "fit", "size"}
    rates = [line["learning_rate"] for line in lines]
    assert rates[:4] == pytest.approx([0.075, 0.15, 0.225, 0.3])  # warm-up
    assert rates[4:] == sorted(rates[4:], reverse=True)  # then down
    assert rates[-1] == pytest.approx(0, abs=1e-8)


def test_the_averaged_weights_are_in_place_at_the_end(tmp_path: Path):
    weights = run(Points(), config(tmp_path))
    from safetensors.torch import load_file

    checkpoint = latest_checkpoint(tmp_path)
    last = load_file(checkpoint / "model.safetensors")
    averaged = torch.load(checkpoint / "custom_checkpoint_0.pkl", weights_only=True)
    for value, shadow in zip(weights.values(), averaged["shadow_params"], strict=True):
        assert torch.equal(value, shadow)
    assert not torch.equal(weights["layer.weight"], last["layer.weight"])


def test_samples_show_the_averaged_weights_and_disturb_nothing(tmp_path: Path):
    seen = []

    def sample(task: nn.Module, folder: Path) -> None:
        seen.append((folder.name, task.training, task.layer.weight.item()))
        torch.rand(5)
        (folder / "sheet.txt").write_text("x")

    plain = run(Points(), config(tmp_path / "plain"))
    sampled = run(Points(), config(tmp_path / "sampled", sample_every=10), sample=sample)
    assert_equal(sampled, plain)
    assert [name for name, *_ in seen] == ["sample-000010", "sample-000020", "sample-final"]
    assert not any(training for _, training, _ in seen)
    assert seen[-1][2] == plain["layer.weight"].item()


def test_a_weight_of_zero_is_no_part_of_the_loss(tmp_path: Path):
    fit = train(Line(0), Points(), config(tmp_path / "a"), weights={"size": 0.0})
    both = train(Line(0), Points(), config(tmp_path / "b"), weights={"size": 10.0})
    assert both.layer.weight.abs() < 0.5 * fit.layer.weight.abs()


def test_frozen_parameters_stay(tmp_path: Path):
    task = Line()
    task.layer.bias.requires_grad_(False)
    train(task, Points(), config(tmp_path))
    assert task.layer.bias.item() == 0
    assert task.layer.weight.item() != 0


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    class Broken(Line):
        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"fit": super().forward(batch)["fit"] / 0}

    with pytest.raises(InputError, match=r"not finite at step 0: .*fit.*--learning-rate"):
        train(Broken(), Points(), config(tmp_path))
    assert latest_checkpoint(tmp_path) is None


def test_a_dry_run_touches_nothing_but_its_own_folder(tmp_path: Path):
    settings = config(tmp_path)
    run(Points(), dataclasses.replace(settings, minutes=0))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    dry = dataclasses.replace(settings, dry_run=True)
    for _ in range(2):  # the second doesn't go on from the first either
        source = Points()
        run(source, dry)
        assert source.steps == [0, 1]
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before
    assert {p.relative_to(tmp_path).parts[0] for p in after.keys() - before.keys()} == {"dry-run"}
    assert latest_checkpoint(dry.folder).name == "checkpoint-0000002"


def test_batches_from_worker_processes_are_the_same(tmp_path: Path):
    alone = run(Points(), config(tmp_path / "alone", steps=6))
    helped = run(Points(), config(tmp_path / "helped", steps=6, workers=2))
    assert_equal(helped, alone)


def test_every_line_is_json(tmp_path: Path):
    run(Points(), config(tmp_path))
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
