"""The index of a saved pipeline: its CLIP model and guidance; does not import torch."""

from __future__ import annotations

import json
from pathlib import Path

from clipmamba.errors import WeightsError
from clipmamba.files import write_json

INDEX = "model_index.json"
MAX_GUIDANCE = 10.0
_REMEDY = "give a folder written by StylizePipeline.save_pretrained"


def read_index(folder: Path) -> tuple[str, float]:
    """Read a saved pipeline's index.

    Returns:
        The name of the CLIP model it was trained with, and its guidance (1 if not stored).

    Raises:
        WeightsError: the folder was not written by :meth:`StylizePipeline.save_pretrained`.
    """
    if not folder.is_dir():
        raise WeightsError(f"no model folder {folder}; {_REMEDY}")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        name, guidance = index["clip"], index.get("guidance", 1.0)
    except FileNotFoundError:
        raise WeightsError(f"no {INDEX} in {folder}; {_REMEDY}") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise WeightsError(f"can't use {folder / INDEX}: it names no clip; {_REMEDY}") from error
    if not isinstance(name, str):
        raise WeightsError(f"can't use {folder / INDEX}: clip must be a name; {_REMEDY}")
    try:
        check_guidance(guidance)
    except WeightsError as error:
        raise WeightsError(f"can't use {folder / INDEX}: {error}") from None
    return name, float(guidance)


def write_index(folder: Path, clip: str, guidance: float) -> None:
    """Write a pipeline's index; a CLIP folder is stored as an absolute path."""
    if clip.startswith(("./", "../", "~")) or Path(clip).is_dir():
        clip = str(Path(clip).expanduser().resolve())
    index = {"_class_name": "StylizePipeline", "clip": clip, "guidance": guidance}
    write_json(folder / INDEX, index)


def check_guidance(guidance: object) -> None:
    """Refuse a guidance out of range.

    Raises:
        WeightsError: it is not a number above 0 and at most `MAX_GUIDANCE`.
    """
    is_number = isinstance(guidance, int | float) and not isinstance(guidance, bool)
    if not (is_number and 0 < guidance <= MAX_GUIDANCE):  # type: ignore[operator]
        raise WeightsError(
            f"guidance must be a number above 0, not {guidance!r}"
            if not is_number
            else f"guidance must be above 0 and at most {MAX_GUIDANCE:g}, not {guidance!r}"
        )
