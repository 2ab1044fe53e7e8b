"""Styles as points in CLIP's space: made from words or pictures, mixed and weighted.

The list of known styles does not import torch; `Style` and `StylePrior` do on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipmamba.styles.known import (
    KNOWN_STYLES,
    KnownStyle,
    find_style,
    lookup_style,
    search_styles,
    suggest_styles,
)
from clipmamba.styles.request import StyleRequest

if TYPE_CHECKING:
    from clipmamba.styles.prior import StylePrior
    from clipmamba.styles.resolve import ResolvedStyle, resolve_style
    from clipmamba.styles.style import Style

_LAZY = {
    "ResolvedStyle": "clipmamba.styles.resolve",
    "Style": "clipmamba.styles.style",
    "StylePrior": "clipmamba.styles.prior",
    "resolve_style": "clipmamba.styles.resolve",
}

__all__ = [
    "KNOWN_STYLES",
    "KnownStyle",
    "ResolvedStyle",
    "Style",
    "StylePrior",
    "StyleRequest",
    "find_style",
    "lookup_style",
    "resolve_style",
    "search_styles",
    "suggest_styles",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'clipmamba.styles' has no attribute {name!r}")
