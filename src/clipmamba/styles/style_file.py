"""What a saved style is, known without torch."""

from __future__ import annotations

import os
from pathlib import Path

from clipmamba.errors import InputError

STYLE_FORMAT = "clipmamba.style.v1"


def check_style_file(path: str | os.PathLike[str]) -> None:
    """Say at once, without torch, whether a file is a saved style.

    Raises:
        InputError: It is not there, not whole, or something else.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "'clipmamba embed' makes one"
    if not Path(path).is_file():
        raise InputError(f"no such style file: {path}; {remedy}")
    try:
        with safe_open(path, framework="np") as file:
            kind = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError):
        kind = None
    if kind != STYLE_FORMAT:
        raise InputError(f"{path} is not a whole style file; {remedy}")
