"""Restyle photos from text prompts.

    from clipmamba import stylize
    picture = stylize("photo.jpg", text="ukiyo-e")

Importing this package is cheap: torch and the models load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "stylize": "clipmamba.pipelines.stylize",
    "warm_up": "clipmamba.pipelines.stylize",
    "StylizePipeline": "clipmamba.pipelines.pipeline",
    "Photo": "clipmamba.pipelines.photo",
    "Stylizer": "clipmamba.models",
    "Style": "clipmamba.styles",
}

__all__ = [
    "Photo",
    "Style",
    "StylizePipeline",
    "Stylizer",
    "__version__",
    "stylize",
    "warm_up",
]

if TYPE_CHECKING:
    from clipmamba.models import Stylizer
    from clipmamba.pipelines.photo import Photo
    from clipmamba.pipelines.pipeline import StylizePipeline
    from clipmamba.pipelines.stylize import stylize, warm_up
    from clipmamba.styles import Style


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'clipmamba' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
