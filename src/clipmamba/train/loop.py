"""The shared training loop: accelerate, bf16, EMA, schedule, resumable checkpoints, JSONL log.

A *task* is a module whose `forward(batch)` returns named losses; a *batch source* returns the batch
of any step by its number. All randomness is seeded with (seed, step, process), so a killed run
resumes from its last complete checkpoint with the batches that it would have seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from clipmamba.errors import InputError
from clipmamba.train.accelerator import agree, keep_freed_memory, make_accelerator
from clipmamba.train.best import Best, Validation, weighted_sum
from clipmamba.train.checkpoints import (
    check_run,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from clipmamba.train.log import Clock, JsonLog, format_duration, hours_logged

logger = logging.getLogger("clipmamba")

Batch = dict[str, Any]


class BatchSource(Protocol):
    """A source of batches by step number; the same arguments always give the same batch."""

    def batch(self, step: int, process: int, processes: int) -> Batch:
        """Return this process's share of the batch of `step`."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Options of a training run; every field is a command line option of the same name.

    Attributes:
        output: Folder for checkpoints, log and samples.
        steps: Optimizer steps of the whole schedule.
        minutes: Wall-clock limit of this call; the run then saves a checkpoint, stops, and can be
            resumed.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        warmup: Steps of linear warm-up.
        decay: Final steps over which the learning rate, constant until then, falls linearly to
            zero; 0 for a cosine schedule from the warm-up to the end.
        ema: Decay of the exponential moving average of the trained parameters.
        clip_grad: Gradients are clipped to this norm.
        save_minutes: Wall-clock minutes between checkpoints, the most that a killed run loses.
        sample_every: Steps between contact sheets; 0 for none.
        validate_every: Steps between validations, which select the best weights; 0 for none.
        log_every: Steps between log lines.
        workers: Number of processes that prepare batches.
        precision: "auto", "bf16", "fp16" or "no"; "auto" uses bf16 where the processor has fast
            bf16 arithmetic, and logs its choice.
        seed: Seed of weights and batches.
        dry_run: Try the command: run two steps and write a checkpoint and a sample into
            `output`/dry-run.
    """

    output: Path
    steps: int = 1000
    minutes: float = float("inf")
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: int = 100
    decay: int = 0
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
        """Folder that this run writes into: `output`, or `output`/dry-run."""
        return self.output / "dry-run" if self.dry_run else self.output


class _Steps(Dataset[Batch]):
    """Steps start…end of a batch source as a map-style dataset, for a DataLoader."""

    def __init__(self, source: BatchSource, start: int, end: int, process: int, processes: int):
        self.source, self.start, self.end = source, start, end
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __getitem__(self, index: int) -> Batch:
        return self.source.batch(self.start + index, self.process, self.processes)


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
    """Train `task` and return it with its averaged (EMA) weights.

    Args:
        task: Module whose `forward(batch)` returns a dict of scalar losses; parameters with
            `requires_grad` are trained.
        source: Batches by step number.
        config: Options of the run.
        weights: Weight of each loss by name; 1 by default.
        groups: Parameter groups for AdamW; by default one group of all trainable parameters.
        sample: Called with the averaged task and a folder every `sample_every` steps.
        validation: Measures the averaged task every `validate_every` steps; the best weights are
            kept in `output`/best.
        accelerator: The caller's `Accelerator`, where the caller needs one; by default made from
            `config`.

    Returns:
        The task in eval mode, on the device that it was trained on.

    Raises:
        InputError: A loss is not finite, or the run that is resumed began with another precision
            or number of processes.
    """
    keep_freed_memory()
    accelerator = accelerator or make_accelerator(config.precision)
    run = _Run(task, config, dict(weights or {}), groups, accelerator)
    best = None
    if validation and config.validate_every:
        best = Best(config.folder / "best", run.factors, validation)
    out_of_time = False
    with (
        JsonLog(config.folder / "log.jsonl", run.start, enabled=run.main) as log,
        JsonLog(
            config.folder / "validation.jsonl", run.start, enabled=run.main and best is not None
        ) as tests,
    ):
        for batch in run.batches(source):
            losses = run.update(batch)
            out_of_time = agree(accelerator, run.clock.minutes > config.minutes)
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


def rate(step: float, steps: int, warmup: int, decay: int) -> float:
    """Return the learning rate at a step, as a fraction of the peak; see `LoopConfig`."""
    if step < warmup:
        return step / warmup
    if not decay:
        return 0.5 + 0.5 * math.cos(math.pi * min(1, (step - warmup) / max(1, steps - warmup)))
    return min(1, max(0, steps - step) / decay)


class _Run:
    """The state of a run: task, optimizer, schedule and averages, resumed from a checkpoint."""

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
        processes = accelerator.num_processes
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate(step / processes, self.steps, config.warmup, config.decay)
        )
        self.ema = EMAModel(self.trained, decay=config.ema, use_ema_warmup=True, power=2 / 3)
        self.model, self.optimizer, self.schedule = accelerator.prepare(task, optimizer, schedule)
        self.step = self.start = self._resume()
        self.ema.to(accelerator.device)
        self.clock = Clock(self.start, hours_logged(config.folder / "log.jsonl", self.start))
        self.saved = time.monotonic()
        task.train()

    def _resume(self) -> int:
        """Load the last checkpoint, if there is one, and return its step, else 0."""
        checkpoint = latest_checkpoint(self.config.folder)
        check_run(self.accelerator, self.config.folder, resumed=checkpoint is not None)
        if checkpoint is None:
            return 0
        start = load_checkpoint(self.accelerator, self.ema, checkpoint)
        logger.info("resumed at step %d from %s", start, checkpoint)
        return start

    def batches(self, source: BatchSource) -> DataLoader[Batch]:
        """Return a loader of the remaining batches."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        return DataLoader(
            _Steps(source, self.start, self.steps, process, processes),
            batch_size=None,
            num_workers=self.config.workers,
            prefetch_factor=4 if self.config.workers else None,
            worker_init_fn=_one_thread,
        )

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step and return the losses before it.

        Raises:
            InputError: A loss is not finite.
        """
        accelerator = self.accelerator
        _seed_step(self.config.seed, self.step, accelerator.process_index)
        with accelerator.autocast():
            losses: dict[str, Tensor] = self.model(_to(batch, accelerator.device))
        total = weighted_sum(losses, self.factors)
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
        """Return whether something done every `every` steps is due now; never if it is 0."""
        return bool(every) and self.step % every == 0

    def report(self, log: JsonLog, losses: dict[str, Tensor], batch: Batch) -> None:
        """Write a line to the log file and one to the console."""
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
            format_duration(3600 * self.clock.hours),
            format_duration(left),
            ", ".join(f"{name} {value:.4g}" for name, value in values.items()),
        )

    def save_if_due(self, last: bool) -> None:
        """Save a checkpoint if the previous one is old enough or this is the last step."""
        old = time.monotonic() - self.saved > 60 * self.config.save_minutes
        if agree(self.accelerator, old) or last:
            save_checkpoint(self.accelerator, self.ema, self.config.folder, self.step)
            self.saved = time.monotonic()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the task in eval mode with its averaged weights, within a `with` block."""
        self.ema.store(self.trained)
        self.ema.copy_to(self.trained)
        self.task.eval()
        try:
            yield
        finally:
            self.task.train()
            self.ema.restore(self.trained)


def _rows(batch: Batch) -> int:
    """Return the batch size: the rows of the first tensor that has any."""
    return next((len(v) for v in batch.values() if isinstance(v, Tensor) and v.ndim), 1)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _seed_step(seed: int, step: int, process: int) -> None:
    """Seed PyTorch's generator, so that a step draws the same numbers after a resume."""
    torch.manual_seed(random.Random(f"{seed}-{step}-{process}").getrandbits(62))


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _to(item, device) for name, item in value.items()}
    return value
