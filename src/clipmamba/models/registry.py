"""The weights that ship with the package: what they are, and whether they are whole.

`weights/manifest.json` has size, SHA-256 and licence of each; `scripts/update_manifest.py` writes
it after a training. No torch here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from clipmamba.errors import WeightsError

ROOT = Path(__file__).parents[1] / "weights"
MANIFEST = "manifest.json"


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
        raise WeightsError(f"can't read {root / MANIFEST}: {error}; {_REMEDY}") from error


def verify(weights: Weights, root: Path = ROOT) -> None:
    """Reads a file and compares its hash with the manifest's; 40 MB take about 0.1 s.

    Raises:
        WeightsError: It is missing, cut short or changed.
    """
    path = weights.path(root)
    if not path.is_file():
        raise WeightsError(f"the weights {path} are missing; {_REMEDY}")
    if measure(path) != (weights.bytes, weights.sha256):
        raise WeightsError(f"the weights {path} are damaged (another SHA-256); {_REMEDY}")


def measure(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(root: Path = ROOT) -> None:
    """Measures the released files anew; licence and description stay."""
    entries = []
    for weights in released(root):
        size, digest = measure(weights.path(root))
        entries.append({**asdict(weights), "bytes": size, "sha256": digest})
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    (root / MANIFEST).write_text(text, encoding="utf-8")


_REMEDY = "install clipmamba again"
