"""Recognition of saved style files, without importing torch."""

from __future__ import annotations

import os
from pathlib import Path

from clipmamba.errors import InputError

STYLE_FORMAT = "clipmamba.style.v1"


def check_style_file(path: str | os.PathLike[str]) -> None:
    """Check that a file is a saved style, without importing torch.

    Raises:
        InputError: The file is missing, damaged or not a style.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "make one with 'clipmamba embed'"
    if not Path(path).is_file():
        raise InputError(f"no such style file: {path}; {remedy}")
    try:
        with safe_open(path, framework="np") as file:
            kind = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError):
        kind = None
    if kind != STYLE_FORMAT:
        raise InputError(f"{path} is damaged or not a style file; {remedy}")
