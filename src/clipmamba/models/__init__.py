"""The stylizer; torch is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from clipmamba.models.second_design import SecondStylizer
    from clipmamba.models.stylizer import Stylizer

__all__ = ["Stylizer", "load_stylizer"]


def load_stylizer(folder: Path) -> Stylizer | SecondStylizer:
    """Load a stylizer of either design, according to its config.json.

    Raises:
        WeightsError: See `Stylizer.from_pretrained`.
    """
    from clipmamba.models.second_design import SecondStylizer, is_second
    from clipmamba.models.stylizer import Stylizer

    return (SecondStylizer if is_second(folder) else Stylizer).from_pretrained(folder)


def __getattr__(name: str) -> Any:
    if name == "Stylizer":
        from clipmamba.models.stylizer import Stylizer

        return Stylizer
    raise AttributeError(f"module 'clipmamba.models' has no attribute {name!r}")
