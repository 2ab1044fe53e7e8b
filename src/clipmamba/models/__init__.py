"""The stylizer; torch is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmamba.models.stylizer import Stylizer

__all__ = ["Stylizer"]


def __getattr__(name: str) -> Any:
    if name == "Stylizer":
        from clipmamba.models.stylizer import Stylizer

        return Stylizer
    raise AttributeError(f"module 'clipmamba.models' has no attribute {name!r}")
