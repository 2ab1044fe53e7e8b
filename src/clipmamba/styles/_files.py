"""Small safetensors files, written whole or not at all and read strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipmamba.errors import WeightsError


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes float32 tensors; the file appears only when it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    kept = {name: value.detach().cpu().float().contiguous() for name, value in tensors.items()}
    try:
        save_file(kept, str(part), metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_tensors(path: Path, names: set[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads exactly the tensors `names` in float32, and the metadata.

    Raises:
        WeightsError: No such file, a broken one, missing or extra tensors, values not finite.
    """
    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            found = set(file.keys())
            if found != names:
                missing = ", ".join(sorted(names - found)) or "none"
                extra = ", ".join(sorted(found - names)) or "none"
                raise WeightsError(f"{path}: missing tensors: {missing}; unknown ones: {extra}")
            tensors = {name: file.get_tensor(name).float() for name in names}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
    return tensors, metadata
