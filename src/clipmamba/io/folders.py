"""Which files of a folder are pictures; for every command and adapter that searches folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from clipmamba.errors import InputError
from clipmamba.io.formats import RAW, WRITABLE

PICTURES = WRITABLE | {".gif", ".bmp", ".ppm", ".pgm", ".jp2", ".jfif"}
"""Lower-case extensions of the files that count as pictures in a folder."""


def walk(
    folder: str | os.PathLike[str],
    suffixes: Collection[str] = PICTURES | RAW,
    leave_out: str | os.PathLike[str] | None = None,
) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, in order of names; hidden ones are skipped.

    Args:
        folder: where to search.
        suffixes: lower-case extensions of the files to yield.
        leave_out: a folder that is not searched, such as that of the results.

    Raises:
        InputError: a subfolder can't be read.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"can't look into {error.filename}: {error.strerror}") from error

    inner = None if leave_out is None else os.path.realpath(leave_out)
    for here, folders, files in os.walk(folder, onerror=fail):
        kept = (x for x in folders if not x.startswith("."))
        folders[:] = sorted(x for x in kept if os.path.realpath(os.path.join(here, x)) != inner)
        for name in sorted(files):
            path = Path(here, name)
            known = not name.startswith(".") and path.suffix.lower() in suffixes
            if known and (path.is_file() or not path.exists()):  # a pipe would never end
                yield path


def raw_skipped(names: Collection[str]) -> str:
    """Say in one line how many RAW files were skipped, and which is the first."""
    files = "1 RAW file" if len(names) == 1 else f"{len(names)} RAW files"
    return f"{files} skipped, the first is {min(names)}; develop them to JPEG or TIFF first"
