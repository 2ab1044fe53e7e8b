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
_LONGEST_NAME = 120  # bytes; a result's name is longer by the style's


@contextlib.contextmanager
def page_folder() -> Iterator[Path]:
    """A folder that nobody else can read, swept every minute, gone at the end."""
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
    """Delete the files below a folder that nobody has used for `age` seconds."""
    oldest = time.time() - age
    for here, folders, files in os.walk(folder, topdown=False):
        for path in (Path(here, name) for name in files):
            with contextlib.suppress(FileNotFoundError):  # somebody else has deleted it
                if path.lstat().st_mtime < oldest:
                    path.unlink()
        for path in (Path(here, name) for name in folders):
            with contextlib.suppress(OSError):  # not empty
                if path.lstat().st_mtime < oldest:
                    path.rmdir()


def new_place(folder: Path) -> Path:
    """A new folder with a name that can't be guessed."""
    place = folder / secrets.token_hex(16)
    place.mkdir()
    return place


def lend(source: Path, name: str, place: Path) -> Path:
    """An uploaded file under the name that it has at the visitor's, without a copy.

    Args:
        source: the upload; its hour begins anew.
        name: what the visitor's browser calls it; only its last part counts.
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
    """The last part of a path of any system, safe as a file's name here."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    last = "".join(letter for letter in last if letter.isprintable()).strip()
    stem, suffix = os.path.splitext(last)
    while len(os.fsencode(stem)) > _LONGEST_NAME:
        stem = stem[:-1]
    return f"{stem}{suffix[:16]}".strip(". ") or "photo"
