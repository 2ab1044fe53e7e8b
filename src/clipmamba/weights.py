"""Weights: those that ship with the package, and how any file of weights is read and written.

`weights/manifest.json` has size, SHA-256 and licence of what ships; `scripts/update_manifest.py`
writes it after a training. torch is imported inside the functions that need it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.errors import WeightsError
from clipmamba.files import one_line, write_json, write_whole

if TYPE_CHECKING:
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Weights:
    """One released file of weights.

    Attributes:
        name: Its folder in `weights`, which also has its config and its card.
        file: The file's name.
        bytes: Its size.
        sha256: Its hash, in hexadecimal.
        licence: Terms of use; the card says more.
        about: What it is, in a line.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    about: str

    def path(self, root: Path = ROOT) -> Path:
        """Where the file is."""
        return root / self.name / self.file


def released(root: Path = ROOT) -> tuple[Weights, ...]:
    """The manifest's entries.

    Raises:
        WeightsError: There is no manifest, or it can't be read.
    """
    try:
        entries = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        return tuple(Weights(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"can't read {root / MANIFEST}: {error}; {_remedy(root)}") from error


def verify(weights: Weights, root: Path = ROOT) -> None:
    """Read a file and compare its hash with the manifest's; 40 MB take about 0.1 s.

    Raises:
        WeightsError: It is missing, cut short or changed.
    """
    path = weights.path(root)
    if not path.is_file():
        raise WeightsError(f"the weights {path} are missing; {_remedy(root)}")
    if measure(path) != (weights.bytes, weights.sha256):
        raise WeightsError(f"the weights {path} are damaged (another SHA-256); {_remedy(root)}")


def _remedy(root: Path) -> str:
    return "install clipmamba again" if root == ROOT else "get the model again"


def measure(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(root: Path = ROOT) -> None:
    """Measure the released files anew; licence and description stay."""
    entries = []
    for weights in released(root):
        size, digest = measure(weights.path(root))
        entries.append({**asdict(weights), "bytes": size, "sha256": digest})
    write_json(root / MANIFEST, entries)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load a model as if nobody else were there: one thread at a time, in torch's usual state.

    What is loaded once serves every later call, so it must not take over what only the first
    caller wanted: inference mode, autocast, a default device.
    """
    import torch

    with (
        _LOCK,
        torch.inference_mode(False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.device("cpu"),
    ):
        yield


def uninitialized() -> TorchFunctionMode:
    """A context, of this thread alone, in which `torch.nn.init` leaves new parameters as they are.

    For modules whose weights are loaded next. The meta device would serve as well, but its random
    numbers import torch's compiler, which takes longer than torch itself.
    """
    from torch.overrides import TorchFunctionMode

    class Uninitialized(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    return Uninitialized()


def read_tensors(
    path: Path, names: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file strictly.

    Args:
        path: The file.
        names: Exactly the tensors that it must have; None takes what there is.

    Returns:
        Floating tensors as float32 and others as they are; the file's metadata.

    Raises:
        WeightsError: No such file, a broken one, missing or extra tensors, values not finite.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            keys = set(file.keys())
            wanted = keys if names is None else set(names)
            if keys != wanted:
                missing = ", ".join(sorted(wanted - keys)) or "none"
                extra = ", ".join(sorted(keys - wanted)) or "none"
                raise WeightsError(f"{path}: missing tensors: {missing}; unknown ones: {extra}")
            tensors = {name: file.get_tensor(name) for name in sorted(keys)}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} can't be read: {one_line(error)}") from error
    for name, value in tensors.items():
        if value.is_floating_point():
            tensors[name] = value = value.to(torch.float32)
            if value.numel() and not math.isfinite(sum(float(end) for end in value.aminmax())):
                raise WeightsError(f"{path}: {name} holds values that are not finite")
    return tensors, metadata


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all; every tensor keeps its type."""
    from safetensors.torch import save_file

    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_whole(path) as part:
        save_file(kept, part, metadata=metadata)


def check_shapes(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not exactly those of a model's state.

    Raises:
        WeightsError: Missing, extra or misshapen tensors.
    """
    problems = {
        "missing": sorted(set(wanted) - set(tensors)),
        "unknown": sorted(set(tensors) - set(wanted)),
        "misshapen": [
            f"{name} {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in tensors and tensors[name].shape != value.shape
        ],
    }
    for kind, names in problems.items():
        if names:
            raise WeightsError(
                f"the weights in {path} do not fit the model: {kind}: {', '.join(names[:3])}; "
                "get the file again"
            )
