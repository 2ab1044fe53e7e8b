"""The shipped weights, and reading and writing of any weights file.

`weights/manifest.json` has the size, SHA-256 and license of each shipped file;
`scripts/update_manifest.py` writes it after training. torch is imported inside the functions that
need it.
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
    """A shipped weights file.

    Attributes:
        name: Its folder in `weights`, which also holds its config and model card.
        file: File name.
        bytes: File size.
        sha256: SHA-256 in hexadecimal.
        licence: Terms of use; the card says more.
        about: A one-line description.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    about: str

    def path(self, root: Path = ROOT) -> Path:
        """Return the path of the file."""
        return root / self.name / self.file


def released(root: Path = ROOT) -> tuple[Weights, ...]:
    """Read the manifest's entries.

    Raises:
        WeightsError: The manifest is missing or can't be read.
    """
    try:
        entries = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        return tuple(Weights(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"can't read {root / MANIFEST}: {error}; {_remedy(root)}") from error


def verify(weights: Weights, root: Path = ROOT) -> None:
    """Compare a file's size and hash with the manifest's; 40 MB take about 0.1 s.

    Raises:
        WeightsError: The file is missing, truncated or changed.
    """
    path = weights.path(root)
    if not path.is_file():
        raise WeightsError(f"the weights {path} are missing; {_remedy(root)}")
    if measure(path) != (weights.bytes, weights.sha256):
        raise WeightsError(f"the weights {path} are damaged (wrong SHA-256); {_remedy(root)}")


def _remedy(root: Path) -> str:
    return "install clipmamba again" if root == ROOT else "get the model again"


def measure(path: Path) -> tuple[int, str]:
    """Measure a file's size in bytes and its SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(root: Path = ROOT) -> None:
    """Update sizes and hashes in the manifest; licenses and descriptions stay."""
    entries = []
    for weights in released(root):
        size, digest = measure(weights.path(root))
        entries.append({**asdict(weights), "bytes": size, "sha256": digest})
    write_json(root / MANIFEST, entries)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Isolate the loading of a model: one thread at a time, in torch's default state.

    A model that is loaded once serves every later call, so it must not depend on the first
    caller's context: inference mode, autocast, a default device.
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
    """Make a context, for this thread only, in which `torch.nn.init` does nothing.

    Use it for modules whose weights are loaded next. The meta device would work too, but its random
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
        names: The exact set of tensors that it must have; None accepts any.

    Returns:
        The tensors, floating-point ones as float32, and the file's metadata.

    Raises:
        WeightsError: The file is missing or damaged, tensors are missing or unknown, or values
            are not finite.
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
    """Write a safetensors file atomically; every tensor keeps its dtype."""
    from safetensors.torch import save_file

    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_whole(path) as part:
        save_file(kept, part, metadata=metadata)


def check_shapes(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names or shapes differ from a model's state.

    Raises:
        WeightsError: Tensors are missing, unknown or of the wrong shape.
    """
    problems = {
        "missing": sorted(set(wanted) - set(tensors)),
        "unknown": sorted(set(tensors) - set(wanted)),
        "wrong shape": [
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
