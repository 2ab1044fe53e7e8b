"""A trainer's losses as a table: the name of each, what it needs and what it applies to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from torch import Tensor

from clipmamba.errors import InputError

Step = TypeVar("Step")


@dataclasses.dataclass(frozen=True)
class Term(Generic[Step]):
    """One row of a table of losses.

    Attributes:
        name: Its name in the log and among the weights.
        function: Computes the loss of a training step: a scalar, or one value per sample.
        needs: Names of the frozen networks that it uses.
        applies_to: Which samples of a batch it applies to, by the trainer's own names.
        share: Share of the steps on which it is computed; a smaller share's steps are a subset of
            a larger share's.
        validated: Whether its value tells how good the model is: false for a loss that another
            trained network sets.
    """

    name: str
    function: Callable[[Step], Tensor]
    needs: tuple[str, ...] = ()
    applies_to: str = "all"
    share: float = 1.0
    validated: bool = True


def select_terms(
    table: Collection[Term[Step]], weights: Mapping[str, float], networks: Collection[str]
) -> list[Term[Step]]:
    """Select the terms with a nonzero weight.

    Args:
        table: All terms of a trainer.
        weights: Factor of each term, by name.
        networks: Names of the available frozen networks.

    Raises:
        InputError: A weight has no term, or a selected term needs a missing network.
    """
    unknown = sorted(weights.keys() - {term.name for term in table})
    if unknown:
        raise InputError(f"there is no loss named {unknown[0]!r}")
    chosen = [term for term in table if weights.get(term.name)]
    for term in chosen:
        missing = [name for name in term.needs if name not in networks]
        if missing:
            raise InputError(f"the loss {term.name!r} needs {missing[0]}; give it, or set weight 0")
    return chosen
