"""Checkpoints of a run: folders that are written atomically."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from clipmamba.errors import InputError
from clipmamba.files import flush, flush_folder, write_json

logger = logging.getLogger("clipmamba")

_AVERAGES = "averages.pt"
_OLD_AVERAGES = "custom_checkpoint_0.pkl"  # name in checkpoints of older versions


def latest_checkpoint(output: Path) -> Path | None:
    """Return the newest complete checkpoint folder in `output`, or None."""
    found = _checkpoints(output)
    return found[-1] if found else None


def load_checkpoint(accelerator: Accelerator, ema: EMAModel, checkpoint: Path) -> int:
    """Load the state and the averaged weights of a checkpoint, and return its step.

    Raises:
        InputError: The run that wrote it trains other weights.
        pickle.UnpicklingError: The averages hold more than plain data; code in them is not run.
    """
    if accelerator.is_main_process and (checkpoint / _OLD_AVERAGES).is_file():
        (checkpoint / _OLD_AVERAGES).rename(checkpoint / _AVERAGES)
    accelerator.wait_for_everyone()
    averages = torch.load(checkpoint / _AVERAGES, map_location="cpu", weights_only=True)
    before, now = ([p.shape for p in of] for of in (averages["shadow_params"], ema.shadow_params))
    if before != now:
        raise InputError(
            f"the run in {checkpoint.parent} trains other weights than these options ask for; "
            "give those that it began with, or name a new --output"
        )
    accelerator.load_state(str(checkpoint))
    ema.load_state_dict(averages)
    return int(checkpoint.name.split("-")[1])


def _checkpoints(output: Path) -> list[Path]:
    return sorted(p for p in output.glob("checkpoint-*") if p.suffix != ".partial")


def save_checkpoint(accelerator: Accelerator, ema: EMAModel, output: Path, step: int) -> None:
    """Write a checkpoint under a temporary name, then rename it; keep the last two.

    If the process is killed while it writes, the previous checkpoint stays intact.
    """
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
        flush_folder(partial)
        partial.rename(final)
        flush(output)
        for old in _checkpoints(output)[:-2]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def check_run(accelerator: Accelerator, output: Path, *, resumed: bool) -> None:
    """Log the number of processes and the precision; refuse to resume a run with others.

    Raises:
        InputError: The run began with another precision or number of processes.
    """
    now = {"processes": accelerator.num_processes, "precision": accelerator.mixed_precision}
    logger.info("training with %(processes)d process(es), precision %(precision)s", now)
    file = output / "run.json"
    before = json.loads(file.read_text("utf-8")) if resumed and file.is_file() else None
    if before not in (None, now):
        raise InputError(
            f"the run in {output} began with {before} and would resume with {now}; "
            "launch it as before, or name a new --output"
        )
    accelerator.wait_for_everyone()  # until all have read the file
    if before is None and accelerator.is_main_process:
        write_json(output / "run.json", now, indent=None)
