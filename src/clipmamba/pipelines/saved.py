"""A saved pipeline: its folder, here or on the Hub, and its index; does not import torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from clipmamba.errors import WeightsError
from clipmamba.files import write_json
from clipmamba.hub import HubName, fetch
from clipmamba.weights import MANIFEST, released, verify

INDEX = "model_index.json"
FILES = (  # of every saved pipeline
    INDEX,
    "stylizer/config.json",
    "stylizer/diffusion_pytorch_model.safetensors",
    "prior/config.json",
    "prior/prior.safetensors",
)
CARD = "README.md"
METRICS = "metrics.json"
RECORDS = (MANIFEST, CARD, "LICENSE*", METRICS, f"*/{METRICS}")  # optional
MAX_GUIDANCE = 10.0
_REMEDY = "give a folder written by StylizePipeline.save_pretrained"


class SavedPipeline(NamedTuple):
    """A saved pipeline and its index.

    Attributes:
        clip: The name of the CLIP model it was trained with.
        guidance: 1 if not stored.
        folder: Where its files are.
    """

    clip: str
    guidance: float
    folder: Path


def hub_name(model: str | os.PathLike[str]) -> HubName | None:
    """Read a model's name on the Hub; None for a folder, which takes precedence.

    A path object is never a name on the Hub.
    """
    if not isinstance(model, str) or os.path.isdir(model):
        return None
    return HubName.parse(model)


def model_label(model: str | os.PathLike[str]) -> str:
    """Name a model for others: a folder without its path, a model of the Hub by its name."""
    name = hub_name(model)
    return Path(model).resolve().name if name is None else str(name)


def read_index(model: str | os.PathLike[str]) -> SavedPipeline:
    """Find a saved pipeline, downloading it if necessary, and read its index.

    Args:
        model: A folder, or "user/name@revision". A model of the Hub is verified against the
            SHA-256 hashes that it records.

    Raises:
        WeightsError: The folder was not written by :meth:`StylizePipeline.save_pretrained`; the
            model is out of reach or damaged, or needs a CLIP folder of another machine.
    """
    folder = _find_folder(model)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        clip, guidance = index["clip"], index.get("guidance", 1.0)
    except FileNotFoundError:
        raise WeightsError(f"no {INDEX} in {folder}; {_REMEDY}") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise WeightsError(f"can't use {folder / INDEX}: it names no clip; {_REMEDY}") from error
    if not isinstance(clip, str):
        raise WeightsError(f"can't use {folder / INDEX}: clip must be a name; {_REMEDY}")
    if hub_name(model) is not None:
        refuse_folder(model, clip)
    try:
        check_guidance(guidance)
    except WeightsError as error:
        raise WeightsError(f"can't use {folder / INDEX}: {error}") from None
    return SavedPipeline(clip, float(guidance), folder)


def _find_folder(model: str | os.PathLike[str]) -> Path:
    name = hub_name(model)
    if name is None:
        if not os.path.isdir(model):
            raise WeightsError(f"no model folder {os.fspath(model)}; {_REMEDY}")
        return Path(model)
    try:
        folder = fetch(name, FILES, RECORDS)
    except WeightsError as error:
        raise WeightsError(f"no model folder {name}, and {error}") from error
    try:
        check_hashes(folder)
    except WeightsError as error:
        raise WeightsError(f"{error}; run: clipmamba models pull {name}") from error
    return folder


def check_hashes(folder: Path) -> int:
    """Verify the weights of a pipeline against the SHA-256 hashes in its manifest, if it has one.

    Returns:
        The number of files in the manifest.

    Raises:
        WeightsError: A file is missing or damaged; the manifest can't be read.
    """
    if not (folder / MANIFEST).is_file():
        return 0
    entries = released(folder)
    for weights in entries:
        verify(weights, folder)
    return len(entries)


def names_a_folder(clip: str) -> bool:
    """Tell whether the name of a CLIP model is a folder of a machine; "mini" never is."""
    if clip == "mini":
        return False
    return clip.startswith(("./", "../", "~", "/", "local-dir:")) or Path(clip).is_dir()


def refuse_folder(model: object, clip: str) -> None:
    """Refuse a model of the Hub whose CLIP model is a folder of its author's machine.

    Raises:
        WeightsError: It is one.
    """
    if names_a_folder(clip):
        raise WeightsError(
            f"{model} was trained with the CLIP folder {clip} of another machine; it can't be used"
        )


def write_index(folder: Path, clip: str, guidance: float) -> None:
    """Write a pipeline's index; a CLIP folder is stored as an absolute path."""
    if names_a_folder(clip) and not clip.startswith("local-dir:"):
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
