"""The one training loop: accelerate, bf16, EMA, schedule, resumable checkpoints, JSONL log.

A *task* is a module whose `forward(batch)` returns named losses; a *batch source* gives the batch
of any step by its number. Randomness is drawn from (seed, step, process), so a run that was killed
goes on from its last complete checkpoint with the batches it would have seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import logging
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from clipmamba.errors import InputError

logger = logging.getLogger("clipmamba")

Batch = dict[str, Any]

_AVERAGES = "averages.pt"  # of a checkpoint
_OLD_AVERAGES = "custom_checkpoint_0.pkl"  # as runs before wrote them, through accelerate


class BatchSource(Protocol):
    """Gives the batch of a step: the same arguments give the same batch."""

    def batch(self, step: int, process: int, processes: int) -> Batch:
        """Returns this process's share of the batch of `step`."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How a run is trained; every field is a command line option of the same name.

    Attributes:
        output: Folder for checkpoints, log and samples.
        steps: Optimiser steps of the whole schedule.
        minutes: Wall-clock limit of this call; the run stops after a checkpoint and can go on.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        warmup: Steps of linear warm-up, then cosine decay to zero at `steps`.
        ema: Decay of the exponential moving average of the trained parameters.
        clip_grad: Largest gradient norm.
        save_minutes: Wall-clock minutes between checkpoints: the most that a kill can lose.
        sample_every: Steps between contact sheets; 0 for none.
        validate_every: Steps between looks at the validation pictures, which choose the best
            weights; 0 for none.
        log_every: Steps between log lines.
        workers: Processes that prepare batches.
        precision: "auto", "bf16", "fp16" or "no"; "auto" is bf16 where the processor computes in
            it, and says what it chose.
        seed: Seed of weights and batches.
        dry_run: Two steps, a checkpoint and a sample into `output`/dry-run, to see that it runs.
    """

    output: Path
    steps: int = 1000
    minutes: float = float("inf")
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: int = 100
    ema: float = 0.999
    clip_grad: float = 1.0
    save_minutes: float = 5.0
    sample_every: int = 0
    validate_every: int = 0
    log_every: int = 20
    workers: int = 0
    precision: str = "auto"
    seed: int = 0
    dry_run: bool = False

    @property
    def folder(self) -> Path:
        """Where this run writes: `output`, or `output`/dry-run."""
        return self.output / "dry-run" if self.dry_run else self.output


@dataclasses.dataclass(frozen=True)
class Validation:
    """How the best weights of a run are found.

    Attributes:
        measure: Named losses of a task on a fixed set of batches, of pictures that are not trained
            on and that nobody judges by. The best weights have the lowest weighted sum.
        keep: Writes what the task has learnt into a folder.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    keep: Callable[[nn.Module, Path], None]


class _Steps(Dataset[Batch]):
    """Steps start…end of a batch source as a map-style data set, for a DataLoader."""

    def __init__(self, source: BatchSource, start: int, end: int, process: int, processes: int):
        self.source, self.start, self.end = source, start, end
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __getitem__(self, index: int) -> Batch:
        return self.source.batch(self.start + index, self.process, self.processes)


def choose_precision(precision: str) -> str:
    """What "auto" means here: "bf16" if matrices are multiplied in it, else "no".

    A CPU without bf16 instructions is some 17 times slower in bf16 than in float32.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast, where = torch.cuda.is_bf16_supported(including_emulation=False), "this GPU"
    else:
        fast = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)()) or bool(
            getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        )
        where = "this processor"
    chosen = "bf16" if fast else "no"
    logger.info("precision %s: %s computes %s in bf16", chosen, where, "fast" if fast else "slowly")
    return chosen


def make_accelerator(precision: str) -> Accelerator:
    """Accelerate's object for this process, on the CPU unless there is an accelerator.

    Raises:
        InputError: Several processes were launched, and accelerate serves them as one each; or it
            is told to accumulate gradients.
    """
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it tells of every file
    if os.environ.get("RANK", "0") != "0":
        logger.setLevel(logging.WARNING)  # one process reports
    accelerator = Accelerator(
        mixed_precision=choose_precision(precision), cpu=not torch.accelerator.is_available()
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InputError(
            f"{launched} processes were launched, and accelerate sees {accelerator.num_processes}"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise InputError(
            "gradients are not accumulated here, and every step would count for a part; give a "
            "larger --batch and unset ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
        )
    return accelerator


def keep_freed_memory() -> None:
    """Has glibc keep what is freed: fresh pages would cost a fifth of each step on a CPU."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            m_trim_threshold, m_mmap_max = -1, -4
            library.mallopt(m_mmap_max, 0)
            library.mallopt(m_trim_threshold, 2**31 - 1)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def train(
    task: nn.Module,
    source: BatchSource,
    config: LoopConfig,
    *,
    weights: Mapping[str, Tensor | float] | None = None,
    groups: list[dict[str, Any]] | None = None,
    sample: Callable[[nn.Module, Path], None] | None = None,
    validation: Validation | None = None,
    accelerator: Accelerator | None = None,
) -> nn.Module:
    """Trains `task` and returns it with the averaged (EMA) weights in place.

    Args:
        task: Module whose `forward(batch)` returns a dict of scalar losses; parameters with
            `requires_grad` are trained.
        source: Batches by step number.
        config: Options of the run.
        weights: Factor of each loss by name; 1 where a name is missing.
        groups: Parameter groups for AdamW; all trainable parameters in one where missing.
        sample: Called with the averaged task and a folder every `sample_every` steps.
        validation: Measures the averaged task every `validate_every` steps and keeps the best in
            `output`/best.
        accelerator: That of the caller, who gathers by it; made from the config where missing.

    Returns:
        The task, on the CPU or device it was trained on, in eval mode.

    Raises:
        InputError: A loss is not finite, or the run began with other precision or processes.
    """
    keep_freed_memory()
    accelerator = accelerator or make_accelerator(config.precision)
    run = _Run(task, config, dict(weights or {}), groups, accelerator)
    best = None
    if validation and config.validate_every:
        best = _Best(config.folder / "best", run.factors, validation)
    out_of_time = False
    with (
        _JsonLog(config.folder / "log.jsonl", run.start, enabled=run.main) as log,
        _JsonLog(
            config.folder / "validation.jsonl", run.start, enabled=run.main and best is not None
        ) as tests,
    ):
        for batch in run.batches(source):
            losses = run.update(batch)
            out_of_time = _agree(accelerator, run.clock.minutes > config.minutes)
            last = out_of_time or run.step == run.steps
            if run.step % config.log_every == 0 or run.step == run.start + 1 or last:
                run.report(log, losses, batch)
            run.save_if_due(last)
            if run.main and sample and run.due(config.sample_every):
                with run.averaged():
                    sample(task, _made(config.folder / f"sample-{run.step:06d}"))
            if run.main and best and (last or run.due(config.validate_every)):
                with run.averaged():
                    tests.write(step=run.step, **best.measure(task, run.step))
            if out_of_time:
                break
    run.ema.copy_to(run.trained)
    task.eval()
    if sample and run.main:
        sample(task, _made(config.folder / "sample-final"))
    accelerator.wait_for_everyone()
    return task


class _Run:
    """What steps on: the task with its optimizer, schedule and averages, from a checkpoint on."""

    def __init__(
        self,
        task: nn.Module,
        config: LoopConfig,
        factors: dict[str, Tensor | float],
        groups: list[dict[str, Any]] | None,
        accelerator: Accelerator,
    ):
        self.task, self.config, self.factors = task, config, factors
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        self.steps = 2 if config.dry_run else config.steps
        if config.dry_run and self.main:
            shutil.rmtree(config.folder, ignore_errors=True)  # a dry run always starts anew
        accelerator.wait_for_everyone()
        set_seed(config.seed)
        self.trained = [p for p in task.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            groups or self.trained,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        # accelerate steps a prepared schedule once per process
        schedule = get_scheduler(
            "cosine",
            optimizer,
            num_warmup_steps=config.warmup * accelerator.num_processes,
            num_training_steps=self.steps * accelerator.num_processes,
        )
        self.ema = EMAModel(self.trained, decay=config.ema, use_ema_warmup=True, power=2 / 3)
        self.model, self.optimizer, self.schedule = accelerator.prepare(task, optimizer, schedule)
        self.step = self.start = self._resume()
        self.ema.to(accelerator.device)
        self.clock = _Clock(self.start, _hours_logged(config.folder / "log.jsonl", self.start))
        self.saved = time.monotonic()
        task.train()

    def _resume(self) -> int:
        """Loads the last checkpoint, if there is one, and gives its step."""
        checkpoint = latest_checkpoint(self.config.folder)
        _check_run(self.accelerator, self.config.folder, resumed=checkpoint is not None)
        if checkpoint is None:
            return 0
        if self.main and (checkpoint / _OLD_AVERAGES).is_file():
            (checkpoint / _OLD_AVERAGES).rename(checkpoint / _AVERAGES)
        self.accelerator.wait_for_everyone()
        self.accelerator.load_state(str(checkpoint))
        averages = torch.load(checkpoint / _AVERAGES, map_location="cpu", weights_only=True)
        self.ema.load_state_dict(averages)
        start = int(checkpoint.name.split("-")[1])
        logger.info("resumed at step %d from %s", start, checkpoint)
        return start

    def batches(self, source: BatchSource) -> DataLoader[Batch]:
        """The batches that are left."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        return DataLoader(
            _Steps(source, self.start, self.steps, process, processes),
            batch_size=None,
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
            worker_init_fn=_one_thread,
        )

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the optimizer; gives the losses before it.

        Raises:
            InputError: A loss is not finite.
        """
        accelerator = self.accelerator
        _seed_step(self.config.seed, self.step, accelerator.process_index)
        with accelerator.autocast():
            losses: dict[str, Tensor] = self.model(_to(batch, accelerator.device))
        total = _weighted(losses, self.factors)
        if not bool(torch.isfinite(total)):
            values = {name: value.item() for name, value in losses.items()}
            raise InputError(
                f"the loss is not finite at step {self.step}: {values}; lower --learning-rate"
            )
        accelerator.backward(total)
        accelerator.clip_grad_norm_(self.trained, self.config.clip_grad)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.trained)
        self.step += 1
        return losses

    def due(self, every: int) -> bool:
        """Whether something that is done every so many steps is due now."""
        return bool(every) and self.step % every == 0

    def report(self, log: _JsonLog, losses: dict[str, Tensor], batch: Batch) -> None:
        """A line in the log, and one for who watches."""
        if not self.main:
            return
        values = {name: round(value.item(), 5) for name, value in losses.items()}
        seconds = self.clock.seconds_per_step(self.step)
        left = min(
            (self.steps - self.step) * seconds, 60 * (self.config.minutes - self.clock.minutes)
        )
        samples = _rows(batch) * self.accelerator.num_processes / seconds
        log.write(
            step=self.step,
            hours=round(self.clock.hours, 4),
            hours_left=round(max(0, left) / 3600, 4),
            samples_per_second=round(samples, 2),
            learning_rate=self.schedule.get_last_lr()[0],
            **values,
        )
        logger.info(
            "step %d of %d, %.2f samples per second, %s so far, %s left: %s",
            self.step,
            self.steps,
            samples,
            _duration(3600 * self.clock.hours),
            _duration(left),
            ", ".join(f"{name} {value:.4g}" for name, value in values.items()),
        )

    def save_if_due(self, last: bool) -> None:
        """A checkpoint, if the last one is old or no step follows."""
        old = time.monotonic() - self.saved > 60 * self.config.save_minutes
        if _agree(self.accelerator, old) or last:
            _save(self.accelerator, self.ema, self.config.folder, self.step)
            self.saved = time.monotonic()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Has the task in eval mode with its averaged weights."""
        self.ema.store(self.trained)
        self.ema.copy_to(self.trained)
        self.task.eval()
        try:
            yield
        finally:
            self.task.train()
            self.ema.restore(self.trained)


class _Clock:
    """Time of a run, over all its calls.

    Args:
        start: Step at which this call begins.
        hours: Hours that the calls before took.
    """

    def __init__(self, start: int, hours: float):
        self.start, self.before, self.began = start, hours, time.monotonic()

    @property
    def minutes(self) -> float:
        """Of this call."""
        return (time.monotonic() - self.began) / 60

    @property
    def hours(self) -> float:
        """Of the run."""
        return self.before + self.minutes / 60

    def seconds_per_step(self, step: int) -> float:
        """Mean of this call."""
        return 60 * self.minutes / max(1, step - self.start)


class _Best:
    """The weights with the lowest validation loss so far, in a folder that is always whole.

    Args:
        folder: Holds `losses.json` and what `validation.keep` writes.
        factors: Of the losses.
        validation: What measures and writes.
    """

    def __init__(
        self,
        folder: Path,
        factors: Mapping[str, Tensor | float],
        validation: Validation,
    ):
        self.folder, self.factors, self.validation = folder, factors, validation
        self.old, self.partial = folder.with_suffix(".old"), folder.with_suffix(".partial")

    def measure(self, task: nn.Module, step: int) -> dict[str, float]:
        """The task's validation losses and their weighted sum; keeps the task if it is the best."""
        losses = {name: float(value) for name, value in self.validation.measure(task).items()}
        total = float(_weighted(losses, self.factors))
        lowest = self._lowest()
        is_best = total < lowest
        logger.info(
            "validation at step %d: %.4g%s (%s)",
            step,
            total,
            ", the best so far" if is_best else f", the best is {lowest:.4g}",
            ", ".join(f"{name} {value:.4g}" for name, value in losses.items()),
        )
        if is_best:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.validation.keep(task, _made(self.partial))
            text = json.dumps({"step": step, "total": total, **losses}, indent=1) + "\n"
            (self.partial / "losses.json").write_text(text, encoding="utf-8")
            self._put_in_place()
        return {"total": total, **losses}

    def _lowest(self) -> float:
        if not self.folder.exists() and self.old.exists():  # killed while it was exchanged
            self.old.rename(self.folder)
        file = self.folder / "losses.json"
        return float(json.loads(file.read_text("utf-8"))["total"]) if file.is_file() else math.inf

    def _put_in_place(self) -> None:
        _to_disk(self.partial)
        shutil.rmtree(self.old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self.old)
        self.partial.rename(self.folder)
        shutil.rmtree(self.old, ignore_errors=True)


def _weighted(losses: Mapping[str, Any], factors: Mapping[str, Tensor | float]) -> Any:
    return sum(losses[name] * factors.get(name, 1.0) for name in losses)


def _rows(batch: Batch) -> int:
    """Samples of a batch: rows of its first tensor that has any."""
    return next((len(v) for v in batch.values() if isinstance(v, Tensor) and v.ndim), 1)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _duration(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _check_run(accelerator: Accelerator, output: Path, *, resumed: bool) -> None:
    """Says how many processes train; refuses to go on with other ones than began the run.

    Raises:
        InputError: The run began with another precision or number of processes.
    """
    now = {"processes": accelerator.num_processes, "precision": accelerator.mixed_precision}
    logger.info("training with %(processes)d process(es), precision %(precision)s", now)
    file = output / "run.json"
    before = json.loads(file.read_text("utf-8")) if resumed and file.is_file() else None
    if before not in (None, now):
        raise InputError(
            f"the run in {output} began with {before} and would go on with {now}; "
            "launch it as before, or name a new --output"
        )
    accelerator.wait_for_everyone()  # all have read it
    if before is None and accelerator.is_main_process:
        (_made(output) / "run.json").write_text(json.dumps(now) + "\n", encoding="utf-8")


def latest_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint folder in `output`, or None."""
    found = _checkpoints(output)
    return found[-1] if found else None


def _checkpoints(output: Path) -> list[Path]:
    return sorted(p for p in output.glob("checkpoint-*") if p.suffix != ".partial")


def _seed_step(seed: int, step: int, process: int) -> None:
    """Seeds what a task draws itself, so that a step is the same after a resume."""
    torch.manual_seed(random.Random(f"{seed}-{step}-{process}").getrandbits(62))


def _agree(accelerator: Accelerator, flag: bool) -> bool:
    """The main process decides, so that all save or stop at the same step."""
    if accelerator.num_processes == 1:
        return flag
    value = torch.tensor([float(flag and accelerator.is_main_process)], device=accelerator.device)
    return bool(accelerator.reduce(value, reduction="sum").item())


def _save(accelerator: Accelerator, ema: EMAModel, output: Path, step: int) -> None:
    """Writes a checkpoint beside its place, then renames: a kill leaves the last one whole."""
    final = output / f"checkpoint-{step:07d}"
    if final.exists():
        return
    partial = final.with_suffix(".partial")
    if accelerator.is_main_process:
        for left in output.glob("checkpoint-*.partial"):
            shutil.rmtree(left)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        torch.save(ema.state_dict(), partial / _AVERAGES)
        _to_disk(partial)
        partial.rename(final)
        _flush(output)
        for old in _checkpoints(output)[:-2]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _to_disk(folder: Path) -> None:
    """Has a folder's files on the disk, so that no later rename comes there before them."""
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle of a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _to(item, device) for name, item in value.items()}
    return value


class _JsonLog:
    """Appends one JSON object a line, flushed, so that a kill loses no line.

    Lines after step `start`, of a run that was killed after its last checkpoint, are dropped: the
    steps come again.
    """

    def __init__(self, path: Path, start: int, *, enabled: bool):
        self.path, self.start, self.enabled = path, start, enabled

    def __enter__(self) -> _JsonLog:
        if self.enabled:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                partial = self.path.with_suffix(".partial")
                partial.write_text("".join(self._kept()), encoding="utf-8")
                partial.replace(self.path)
            self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            self.file.close()

    def _kept(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                whole = line.endswith("\n")  # a kill may leave half a line
                if whole and json.loads(line)["step"] <= self.start:
                    yield line

    def write(self, **values: Any) -> None:
        if self.enabled:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()


def _hours_logged(path: Path, start: int) -> float:
    """Hours that a run took up to a step, by its log."""
    if not path.is_file():
        return 0.0
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    return max((line.get("hours", 0.0) for line in lines if line["step"] <= start), default=0.0)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a JSONL log."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
