from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import pickle
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.train import log
from clipmamba.train.accelerator import choose_precision, make_accelerator
from clipmamba.train.best import Validation
from clipmamba.train.checkpoints import latest_checkpoint
from clipmamba.train.log import read_log
from clipmamba.train.loop import LoopConfig, rate, train

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
    first, second = (
        {line["step"]: line["fit"] for line in read_log(tmp_path / name / "log.jsonl")}
        for name in ("whole", "killed")
    )
    assert second.pop(14)  # the first of a call is logged, too
    assert first == second


def test_the_learning_rate_rises_and_falls():
    cosine = [rate(step, steps=20, warmup=4, decay=0) for step in (0, 2, 4, 12, 20)]
    assert cosine == pytest.approx([0, 0.5, 1, 0.5, 0])
    late = [rate(step, steps=20, warmup=4, decay=8) for step in (2, 4, 12, 14, 16, 20)]
    assert late == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0])


def test_a_run_can_be_ended_earlier_than_planned(tmp_path: Path):
    killed_at(13, config(tmp_path, save_minutes=0, steps=1000))
    run(Points(), config(tmp_path, steps=20, decay=7, log_every=1))
    rates = {x["step"]: x["learning_rate"] for x in read_log(tmp_path / "log.jsonl")}
    assert [rates[step] for step in (14, 16, 19)] == pytest.approx(
        [0.3 * 6 / 7, 0.3 * 4 / 7, 0.3 / 7]
    )


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
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl")]
    assert steps == sorted({1, 2, *range(2, 25, 2)})  # each call's first step, too


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
    assert set(lines[0]) == {
        "step", "hours", "hours_left", "samples_per_second", "learning_rate", "fit", "size",
    }  # fmt: skip
    left = [line["hours_left"] for line in lines]
    assert left[-1] == 0
    assert all(line["samples_per_second"] > 0 for line in lines)
    rates = [line["learning_rate"] for line in lines]
    assert rates[:4] == pytest.approx([0.075, 0.15, 0.225, 0.3])  # warm-up
    assert rates[4:] == sorted(rates[4:], reverse=True)  # then down
    assert rates[-1] == pytest.approx(0, abs=1e-8)


def test_the_averaged_weights_are_in_place_at_the_end(tmp_path: Path):
    weights = run(Points(), config(tmp_path))
    from safetensors.torch import load_file

    checkpoint = latest_checkpoint(tmp_path)
    last = load_file(checkpoint / "model.safetensors")
    averaged = torch.load(checkpoint / "averages.pt", weights_only=True)
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


def test_a_short_run_leaves_a_log_and_says_where_it_is(tmp_path: Path, caplog):
    with caplog.at_level(logging.INFO, "clipmamba"):
        run(Points(), config(tmp_path, steps=3, log_every=20))
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 3]
    assert "training with 1 process(es), precision no" in caplog.messages
    first = next(line for line in caplog.messages if line.startswith("step 1 of 3, "))
    assert re.search(r"[\d.]+ samples per second, 0 h 00 min so far, .* left: fit [\d.]+", first)


def test_a_run_stopped_by_the_clock_has_logged_its_last_step(tmp_path: Path):
    run(Points(), config(tmp_path, minutes=0, log_every=20))
    run(Points(), config(tmp_path, minutes=0, log_every=20))
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_hours_go_on_over_a_kill(tmp_path: Path):
    settings = config(tmp_path, save_minutes=0, log_every=1)
    killed_at(3, settings)
    lines = list(read_log(tmp_path / "log.jsonl"))
    lines[-1]["hours"] = 5.0  # it took long
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(Points(), settings)
    hours = [line["hours"] for line in read_log(tmp_path / "log.jsonl")]
    assert hours[2] == 5
    assert all(5 <= later < 5.5 for later in hours[3:])


def test_samples_per_second_count_the_batch(tmp_path: Path, monkeypatch):
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr(log, "time", clock)
    run(Points(), config(tmp_path, log_every=1))
    line = list(read_log(tmp_path / "log.jsonl"))[9]
    seconds_so_far = 3600 * line["hours"]
    assert line["samples_per_second"] == pytest.approx(16 * 10 / seconds_so_far, rel=0.3)


def test_a_run_is_not_resumed_with_other_weights(tmp_path: Path):
    run(Points(), config(tmp_path))
    wider = Line()
    wider.extra = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"trains other weights.*new --output"):
        train(wider, Points(), config(tmp_path, steps=30))
    run(Points(), config(tmp_path, steps=30))


@pytest.mark.parametrize("changed", [{"precision": "bf16"}, {"processes": 2}])
def test_a_run_that_began_otherwise_does_not_go_on(tmp_path: Path, changed: dict):
    run(Points(), config(tmp_path, minutes=0))
    began = json.loads((tmp_path / "run.json").read_text())
    assert began == {"processes": 1, "precision": "no"}
    (tmp_path / "run.json").write_text(json.dumps(began | changed))
    before = latest_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"launch it as before") as caught:
        run(Points(), config(tmp_path))
    assert str(next(iter(changed.values()))) in str(caught.value)
    assert latest_checkpoint(tmp_path) == before


def test_accumulation_from_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(InputError, match="ACCELERATE_GRADIENT_ACCUMULATION_STEPS"):
        make_accelerator("no")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="for processes on a CPU")
def test_processes_that_sleep_for_a_night_find_each_other_again():
    assert make_accelerator("no").init_handler.timeout > timedelta(days=1)


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "no")])
def test_precision_is_what_the_processor_is_fast_in(fast, expected, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, "clipmamba"):
        assert choose_precision("auto") == expected
    assert caplog.messages[0].startswith(f"precision {expected}: this processor")
    assert choose_precision("fp16") == "fp16"  # what is asked for is taken


def test_checkpoints_of_an_older_trainer_go_on(tmp_path: Path):
    whole = run(Points(), config(tmp_path / "whole"))
    settings = config(tmp_path / "old", save_minutes=0)
    killed_at(9, settings)
    for checkpoint in settings.folder.glob("checkpoint-*"):
        (checkpoint / "averages.pt").rename(checkpoint / "custom_checkpoint_0.pkl")
    assert_equal(run(Points(), settings), whole)


def test_averages_that_hold_code_are_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run by the checkpoint",))

    settings = config(tmp_path, save_minutes=0)
    killed_at(3, settings)
    torch.save({"shadow_params": Evil()}, latest_checkpoint(tmp_path) / "averages.pt")
    with pytest.raises(pickle.UnpicklingError):
        run(Points(), settings)
    assert not (tmp_path / "run by the checkpoint").exists()


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch):
    flushed, renamed = [], []
    fsync, rename = os.fsync, Path.rename

    def spy_rename(self: Path, target: Path) -> Path:
        if self.name.startswith("checkpoint-"):
            files = {path.stat().st_ino for path in (self, *self.rglob("*"))}
            renamed.append(files <= set(flushed))
        return rename(self, target)

    monkeypatch.setattr(
        os, "fsync", lambda file: (flushed.append(os.fstat(file).st_ino), fsync(file))
    )
    monkeypatch.setattr(Path, "rename", spy_rename)
    run(Points(), config(tmp_path))
    assert renamed == [True]


class Valley:
    """Validation losses that fall and rise; keeps the weight of the task."""

    def __init__(self, *totals: float):
        self.totals = iter(totals)
        self.weights: list[float] = []

    def measure(self, task: nn.Module) -> dict[str, float]:
        assert not task.training
        torch.rand(3)
        self.weights.append(task.layer.weight.item())
        return {"fit": next(self.totals), "size": 100.0}

    def keep(self, task: nn.Module, folder: Path) -> None:
        (folder / "weight.json").write_text(json.dumps(task.layer.weight.item()))

    @property
    def validation(self) -> Validation:
        return Validation(self.measure, self.keep)


def test_the_best_averaged_weights_are_kept(tmp_path: Path):
    plain = run(Points(), config(tmp_path / "plain"))
    valley = Valley(3.0, 1.0, 2.0, float("nan"))
    settings = config(tmp_path / "run", validate_every=7)
    result = run(Points(), settings, validation=valley.validation)
    assert_equal(result, plain)  # looking disturbs nothing
    best = settings.folder / "best"
    assert json.loads((best / "weight.json").read_text()) == valley.weights[1]
    assert json.loads((best / "losses.json").read_text()) == {
        "step": 14, "total": 1.0, "fit": 1.0, "size": 100.0,
    }  # fmt: skip
    lines = list(read_log(settings.folder / "validation.jsonl"))
    assert [line["step"] for line in lines] == [7, 14, 21, 24]
    assert valley.weights[-1] == plain["layer.weight"].item()
    assert sorted(path.name for path in settings.folder.glob("best*")) == ["best"]


def test_a_resumed_run_remembers_its_best(tmp_path: Path):
    settings = config(tmp_path, validate_every=4, save_minutes=0)
    first = Valley(3.0, 1.0, 9.0)
    with pytest.raises(KeyboardInterrupt):
        run(Points(die_at=13), settings, validation=first.validation)
    (tmp_path / "best").rename(tmp_path / "best.old")  # killed while the best was exchanged
    second = Valley(2.0, 2.0, 2.0)
    run(Points(), settings, validation=second.validation)
    assert json.loads((tmp_path / "best" / "losses.json").read_text())["step"] == 8
    assert [line["step"] for line in read_log(tmp_path / "validation.jsonl")] == [
        4, 8, 12, 16, 20, 24,
    ]  # fmt: skip


def test_without_validation_there_is_no_best(tmp_path: Path):
    run(Points(), config(tmp_path / "a", validate_every=1))
    run(Points(), config(tmp_path / "b"), validation=Valley().validation)
    assert not list(tmp_path.glob("*/best*"))
    assert not list(tmp_path.glob("*/validation.jsonl"))


def test_every_line_is_json(tmp_path: Path):
    run(Points(), config(tmp_path))
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
