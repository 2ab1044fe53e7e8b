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
        measure: Returns the named losses of a task on fixed batches, of pictures used neither in
            training nor by the judge. The best weights have the lowest weighted sum.
        keep: Writes the task's weights into a folder.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    keep: Callable[[nn.Module, Path], None]


class Best:
    """The weights with the lowest validation loss so far, in a folder replaced atomically.

    Args:
        folder: Folder of `losses.json` and of what `validation.keep` writes.
        factors: Weights of the losses by name; 1 by default.
        validation: Measures a task and writes its weights.
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
        """Return the validation losses and their weighted sum, `total`; keep the best task."""
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
        if not self.folder.exists() and self.old.exists():  # killed during the replacement
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
    """Return the sum of the losses times their factors, which are 1 by default."""
    return sum(losses[name] * factors.get(name, 1.0) for name in losses)
