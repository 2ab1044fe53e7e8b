"""The `Accelerator` of a training process, its precision and its memory."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from datetime import timedelta

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from clipmamba.errors import InputError

logger = logging.getLogger("clipmamba")

# A suspended laptop or a stopped run must find its other processes again. A process that dies is
# noticed at once, since its connection closes.
PATIENCE = timedelta(days=7)


def choose_precision(precision: str) -> str:
    """Resolve "auto": "bf16" if the processor multiplies bf16 matrices, else "no".

    A CPU without bf16 instructions is about 17 times slower in bf16 than in float32.
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
    """Make the `Accelerator` of this process, on the CPU unless there is an accelerator.

    Raises:
        InputError: accelerate does not see all of the launched processes, or is told to
            accumulate gradients.
    """
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it logs every file
    if os.environ.get("RANK", "0") != "0":
        logger.setLevel(logging.WARNING)  # one process reports
    on_cpu = not torch.accelerator.is_available()
    groups = [InitProcessGroupKwargs(timeout=PATIENCE)] if on_cpu else []
    accelerator = Accelerator(
        mixed_precision=choose_precision(precision), cpu=on_cpu, kwargs_handlers=groups
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InputError(
            f"{launched} processes were launched, but accelerate sees {accelerator.num_processes}"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise InputError(
            "gradient accumulation is not supported; give a larger --batch "
            "and unset ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
        )
    return accelerator


def agree(accelerator: Accelerator, flag: bool) -> bool:
    """Return the main process's flag, so that all processes save or stop at the same step."""
    if accelerator.num_processes == 1:
        return flag
    value = torch.tensor([float(flag and accelerator.is_main_process)], device=accelerator.device)
    return bool(accelerator.reduce(value, reduction="sum").item())


def keep_freed_memory() -> None:
    """Make glibc keep freed memory: new pages would cost a fifth of each step on a CPU."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            m_trim_threshold, m_mmap_max = -1, -4
            library.mallopt(m_mmap_max, 0)
            library.mallopt(m_trim_threshold, 2**31 - 1)
