"""The one training loop: accelerate, bf16, EMA, schedule, resumable checkpoints, JSONL log.

A *task* is a module whose `forward(batch)` returns named losses; a *batch source* gives the batch
of any step by its number. Randomness is drawn from (seed, step, process), so a run that was killed
goes on from its last complete checkpoint with the batches it would have seen.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
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
    log_every: int = 20
    workers: int = 0
    precision: str = "auto"
    seed: int = 0
    dry_run: bool = False

    @property
    def folder(self) -> Path:
        """Where this run writes: `output`, or `output`/dry-run."""
        return self.output / "dry-run" if self.dry_run else self.output


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
        InputError: Several processes were launched, and accelerate serves them as one each.
    """
    here = torch.accelerator.is_available()
    made = Accelerator(mixed_precision=choose_precision(precision), cpu=not here)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != made.num_processes:
        raise InputError(
            f"{launched} processes were launched, and accelerate sees {made.num_processes}"
        )
    if not made.is_main_process:
        logger.setLevel(logging.WARNING)  # one process reports
    return made


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
        accelerator: That of the caller, who gathers by it; made from the config where missing.

    Returns:
        The task, on the CPU or device it was trained on, in eval mode.
    """
    accelerator = accelerator or make_accelerator(config.precision)
    keep_freed_memory()
    output = config.folder
    if config.dry_run and accelerator.is_main_process:
        shutil.rmtree(output, ignore_errors=True)  # a dry run always starts anew
    accelerator.wait_for_everyone()
    steps = 2 if config.dry_run else config.steps
    factors = dict(weights or {})
    set_seed(config.seed)
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        groups or trained,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
    )
    # accelerate steps a prepared schedule once per process
    schedule = get_scheduler(
        "cosine",
        optimizer,
        num_warmup_steps=config.warmup * accelerator.num_processes,
        num_training_steps=steps * accelerator.num_processes,
    )
    ema = EMAModel(trained, decay=config.ema, use_ema_warmup=True, power=2 / 3)
    model, optimizer, schedule = accelerator.prepare(task, optimizer, schedule)
    ema.to(accelerator.device)
    accelerator.register_for_checkpointing(ema)
    start = 0
    checkpoint = latest_checkpoint(output)
    _check_run(accelerator, output, resumed=checkpoint is not None)
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
        ema.to(accelerator.device)  # it comes back on the CPU
        start = int(checkpoint.name.split("-")[1])
        logger.info("resumed at step %d from %s", start, checkpoint)
    data = DataLoader(
        _Steps(source, start, steps, accelerator.process_index, accelerator.num_processes),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_one_thread,
    )
    began = saved = time.monotonic()
    step = start
    task.train()
    with _JsonLog(output / "log.jsonl", start, enabled=accelerator.is_main_process) as log:
        for batch in data:
            _seed_step(config.seed, step, accelerator.process_index)
            batch = _to(batch, accelerator.device)
            with accelerator.autocast():
                losses = model(batch)
            total = sum(losses[name] * factors.get(name, 1.0) for name in losses)
            if not bool(torch.isfinite(total)):
                values = {name: value.item() for name, value in losses.items()}
                raise InputError(
                    f"the loss is not finite at step {step}: {values}; lower --learning-rate"
                )
            accelerator.backward(total)
            accelerator.clip_grad_norm_(trained, config.clip_grad)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            ema.step(trained)
            step += 1
            now = time.monotonic()
            if step % config.log_every == 0 or step in (start + 1, steps):
                values = {name: round(value.item(), 5) for name, value in losses.items()}
                seconds = (now - began) / (step - start)
                log.write(
                    step=step,
                    minutes=round((now - began) / 60, 2),
                    learning_rate=schedule.get_last_lr()[0],
                    seconds_per_step=round(seconds, 3),
                    **values,
                )
                if accelerator.is_main_process:
                    logger.info(
                        "step %d of %d, %.2f s a step, %s left: %s",
                        step,
                        steps,
                        seconds,
                        _hours(min((steps - step) * seconds, config.minutes * 60 - now + began)),
                        ", ".join(f"{name} {value:.4g}" for name, value in values.items()),
                    )
            out_of_time = _agree(accelerator, now - began > config.minutes * 60)
            if _agree(accelerator, now - saved > config.save_minutes * 60) or out_of_time:
                _save(accelerator, output, step)
                saved = time.monotonic()
            if sample and config.sample_every and step % config.sample_every == 0:
                _sample(accelerator, ema, trained, task, sample, output / f"sample-{step:06d}")
            if out_of_time:
                break
    if step > start:
        _save(accelerator, output, step)
    ema.copy_to(trained)
    task.eval()
    if sample and accelerator.is_main_process:
        folder = output / "sample-final"
        folder.mkdir(parents=True, exist_ok=True)
        sample(task, folder)
    accelerator.wait_for_everyone()
    return task


def _hours(seconds: float) -> str:
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
    if resumed and file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != now:
            raise InputError(
                f"the run in {output} began with {before} and would go on with {now}; "
                "launch it as before, or name a new --output"
            )
    elif accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now) + "\n", encoding="utf-8")
    accelerator.wait_for_everyone()


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


def _save(accelerator: Accelerator, output: Path, step: int) -> None:
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
        partial.rename(final)
        for old in _checkpoints(output)[:-2]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _sample(
    accelerator: Accelerator,
    ema: EMAModel,
    trained: list[nn.Parameter],
    task: nn.Module,
    sample: Callable[[nn.Module, Path], None],
    folder: Path,
) -> None:
    if not accelerator.is_main_process:
        return
    folder.mkdir(parents=True, exist_ok=True)
    ema.store(trained)
    ema.copy_to(trained)
    task.eval()
    sample(task, folder)
    task.train()
    ema.restore(trained)


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


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a JSONL log."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
