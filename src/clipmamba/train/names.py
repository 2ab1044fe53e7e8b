"""Lists of file names on disk: as many as there are, and a few bytes of memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Names(Sequence[str]):
    """A memory-mapped list of names that `write_names` wrote; a worker process maps it again.

    Args:
        stem: Of the two files: `STEM.txt`, one name per line, and `STEM.npy`, where each ends.
    """

    def __init__(self, stem: Path):
        self.stem = stem
        self._ends = np.load(_ends(stem), mmap_mode="r")
        self._text = np.memmap(_text(stem), np.uint8, "r") if len(self._ends) else np.empty(0)

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
    """Write names, one after the other, in bounded memory.

    Raises:
        ValueError: A name has a line break.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    raw, end, count = stem.with_name(stem.name + ".ends"), 0, 0
    with _text(stem).open("wb") as text, raw.open("wb") as ends:
        for name in names:
            if "\n" in name:
                raise ValueError(f"a file's name has a line break: {name!r}")
            end += text.write(name.encode() + b"\n")
            ends.write(np.int64(end).tobytes())
            count += 1
    table = np.lib.format.open_memmap(_ends(stem), "w+", np.int64, (count,))
    for start in range(0, count, 1 << 20):
        block = np.fromfile(raw, np.int64, 1 << 20, offset=8 * start)
        table[start : start + len(block)] = block
    table.flush()
    raw.unlink()
    return Names(stem)


def _text(stem: Path) -> Path:
    return stem.with_name(stem.name + ".txt")


def _ends(stem: Path) -> Path:
    return stem.with_name(stem.name + ".npy")
