"""Lists of names on disk, of which a process maps only what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from clipmamba.files import write_whole


class Names(Sequence[str]):
    """A memory-mapped list of names, written by `write_names`; a worker process maps it again.

    Args:
        stem: Path of the two files without extension: `STEM.txt` has one name per line, `STEM.ends`
            the place where each ends, as 64-bit integers.
    """

    def __init__(self, stem: Path):
        self.stem = stem
        self._text = _map(_text(stem), np.uint8)
        self._ends = _map(_ends(stem), np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...

    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self[row] for row in range(*place.indices(len(self))))
        row = range(len(self))[place]
        start = int(self._ends[row - 1]) if row else 0
        return bytes(self._text[start : int(self._ends[row]) - 1]).decode()

    def __reduce__(self) -> tuple[type[Names], tuple[Path]]:
        return Names, (self.stem,)


def write_names(stem: Path, names: Iterable[str]) -> Names:
    """Write names one after the other, in bounded memory; lists that are mapped stay as they are.

    Raises:
        ValueError: A name has a line break.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    end = 0
    with (
        write_whole(_text(stem)) as text_part,
        write_whole(_ends(stem)) as ends_part,
        text_part.open("wb") as text,
        ends_part.open("wb") as ends,
    ):
        for name in names:
            if "\n" in name:
                raise ValueError(f"a name has a line break: {name!r}")
            end += text.write(name.encode() + b"\n")
            ends.write(np.int64(end).tobytes())
    return Names(stem)


def stable_hash(name: str) -> int:
    """Return a number of 56 bits that stands for a name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())


def _map(file: Path, kind: type[np.generic]) -> NDArray[Any]:
    """Map a file; an empty one can't be mapped."""
    return np.memmap(file, kind, "r") if file.stat().st_size else np.empty(0, kind)


def _text(stem: Path) -> Path:
    return stem.with_name(stem.name + ".txt")


def _ends(stem: Path) -> Path:
    return stem.with_name(stem.name + ".ends")
