"""Probes whether a backend really works, once per process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Probe(Generic[T]):
    """A trial of a CUDA backend that runs once and whose outcome is cached.

    The outcome holds for all later callers, so it must not depend on the first caller's context:
    the trial runs in a thread of its own, with gradients enabled and without inference mode,
    autocast, other modes, function transforms or a default device. It does not run while a CUDA
    graph is being captured or torch.compile is tracing.

    Args:
        trial: takes the CUDA device to run on; returns what works, or None, and the reason. It must
            give every dtype explicitly, since the default dtype is global to the process.
    """

    def __init__(self, trial: Callable[[torch.device], tuple[T | None, str]]) -> None:
        self._trial = trial
        self._lock = Lock()
        self.outcome: tuple[T | None, str] | None = None
        """The cached result of the trial."""

    def __call__(self) -> tuple[T | None, str]:
        """Return what works, or None, and the reason."""
        if self.outcome is not None:
            return self.outcome
        if torch.compiler.is_compiling():
            return None, "not tried while torch.compile is tracing"
        if not torch.cuda.is_available():
            return None, "no CUDA device"
        if torch.cuda.is_current_stream_capturing():
            return None, "not tried while a CUDA graph is being captured; scan once before that"
        device = torch.device("cuda", torch.cuda.current_device())
        with self._lock:
            if self.outcome is None:
                with ThreadPoolExecutor(1) as thread:
                    self.outcome = thread.submit(self._trial, device).result()
        return self.outcome
