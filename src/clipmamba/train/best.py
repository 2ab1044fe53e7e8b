"""The best weights of a run, chosen by validation losses."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipmamba.files import flush_folder, write_json

logger = logging.getLogger("clipmamba")


@dataclass(frozen=True)
class Validation:
    """How the best weights of a run are found.

    Attributes:
        measure: Named losses of a task on a fixed set of batches, of pictures that are not trained
            on and that nobody judges by. The best weights have the lowest weighted sum.
        keep: Writes what the task has learned into a folder.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    keep: Callable[[nn.Module, Path], None]


class Best:
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
        total = float(weighted_sum(losses, self.factors))
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
            self.partial.mkdir(parents=True)
            self.validation.keep(task, self.partial)
            write_json(self.partial / "losses.json", {"step": step, "total": total, **losses})
            self._put_in_place()
        return {"total": total, **losses}

    def _lowest(self) -> float:
        if not self.folder.exists() and self.old.exists():  # killed while it was exchanged
            self.old.rename(self.folder)
        file = self.folder / "losses.json"
        return float(json.loads(file.read_text("utf-8"))["total"]) if file.is_file() else math.inf

    def _put_in_place(self) -> None:
        flush_folder(self.partial)
        shutil.rmtree(self.old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self.old)
        self.partial.rename(self.folder)
        shutil.rmtree(self.old, ignore_errors=True)


def weighted_sum(losses: Mapping[str, Any], factors: Mapping[str, Tensor | float]) -> Any:
    """Sum losses by their factors; 1 where a factor is missing."""
    return sum(losses[name] * factors.get(name, 1.0) for name in losses)
