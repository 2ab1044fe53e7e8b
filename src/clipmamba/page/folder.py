"""The page's own folder: uploads and results, deleted after an hour and when the page ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

KEPT = 3600.0  # seconds from the last use
_INTERVAL = 60.0
_LONGEST_NAME = 120  # bytes; leaves room for the style in a result's name


@contextlib.contextmanager
def page_folder() -> Iterator[Path]:
    """Make a private folder, swept every minute and deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="clipmamba-page-", ignore_cleanup_errors=True) as name:
        folder, ended = Path(name), threading.Event()

        def keep_clean() -> None:
            while not ended.wait(_INTERVAL):
                sweep(folder, KEPT)

        thread = threading.Thread(target=keep_clean, daemon=True)
        thread.start()
        try:
            yield folder
        finally:
            ended.set()
            thread.join()


def sweep(folder: Path, age: float) -> None:
    """Delete the files below a folder that have not been used for `age` seconds."""
    oldest = time.time() - age
    for here, folders, files in os.walk(folder, topdown=False):
        for path in (Path(here, name) for name in files):
            with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                if path.lstat().st_mtime < oldest:
                    path.unlink()
        for path in (Path(here, name) for name in folders):
            with contextlib.suppress(OSError):  # not empty
                if path.lstat().st_mtime < oldest:
                    path.rmdir()


def new_place(folder: Path) -> Path:
    """Create a folder with a name that can't be guessed."""
    place = folder / secrets.token_hex(16)
    place.mkdir()
    return place


def lend(source: Path, name: str, place: Path) -> Path:
    """Link an uploaded file into a folder under its original name, without a copy if possible.

    Args:
        source: the upload; its time of last use is updated.
        name: its name in the visitor's browser; only the last part counts.
        place: the folder to put it in.

    Raises:
        FileNotFoundError: it has been deleted.
    """
    os.utime(source)
    target = place / file_name(name)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
    return target


def file_name(name: str) -> str:
    """Make a safe file name from the last part of a path of any operating system."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    last = "".join(letter for letter in last if letter.isprintable()).strip()
    stem, suffix = os.path.splitext(last)
    while len(os.fsencode(stem)) > _LONGEST_NAME:
        stem = stem[:-1]
    return f"{stem}{suffix[:16]}".strip(". ") or "photo"
