"""Trying whether a backend really works, once for the process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Probe(Generic[T]):
    """A trial of a CUDA backend that is made once and whose outcome is kept.

    The outcome holds for all later callers, so it must not hang on the state that the first one is
    in: the trial runs on a thread of its own, where gradients are on and no inference mode,
    autocast, other mode, function transform or default device is at work. Nothing is tried, or
    kept, while a CUDA graph is being captured or torch.compile makes a graph.

    Args:
        trial: takes the CUDA device to run on; gives what works, or None, and the reason. It must
            name every type that it needs: the default one is the process's.
    """

    def __init__(self, trial: Callable[[torch.device], tuple[T | None, str]]) -> None:
        self._trial = trial
        self._lock = Lock()
        self.outcome: tuple[T | None, str] | None = None
        """What the trial gave, once it was made."""

    def __call__(self) -> tuple[T | None, str]:
        """What works, or None, with the reason."""
        if self.outcome is not None:
            return self.outcome
        if torch.compiler.is_compiling():
            return None, "not tried: torch.compile is at work"
        if not torch.cuda.is_available():
            return None, "no CUDA device"
        if torch.cuda.is_current_stream_capturing():
            return None, "not tried: a CUDA graph is being captured; scan once before that"
        device = torch.device("cuda", torch.cuda.current_device())
        with self._lock:
            if self.outcome is None:
                with ThreadPoolExecutor(1) as thread:
                    self.outcome = thread.submit(self._trial, device).result()
        return self.outcome
