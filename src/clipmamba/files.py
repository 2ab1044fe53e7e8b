"""Write files atomically, and describe file errors in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipmamba.errors import InputError

__all__ = [
    "ExistsError",
    "check_place",
    "flush",
    "flush_folder",
    "one_line",
    "reason",
    "write_json",
    "write_whole",
]


class ExistsError(InputError):
    """A file exists already and may not be replaced."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Format an exception's message without line breaks; its type's name if it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def reason(error: OSError) -> str:
    """Describe an operating-system error without the path."""
    return error.strerror or one_line(error)


def check_place(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Check that a file could be written, before any work.

    Raises:
        ExistsError: the file exists and `overwrite` is False.
        InputError: the folder is missing or read-only, the name is too long, or the path is not a
            regular file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"can't write {path}: it is a folder; give a file name")
        if not path.parent.is_dir():
            raise InputError(f"can't write {path}: there is no folder {path.parent}")
        if os.path.lexists(path):
            if not overwrite:
                raise ExistsError(
                    f"{path} exists already; choose another name or allow --overwrite"
                )
            if path.exists() and not path.is_file():
                raise InputError(f"can't write {path}: it is a device or a pipe, not a file")
        else:
            check_name(path)
        folder = _behind_links(path).parent
        if not os.access(folder, os.W_OK):
            raise InputError(f"can't write {path}: the folder {folder} is not writable")
    except OSError as error:
        raise InputError(f"can't write {path}: {reason(error)}") from error


def check_name(path: Path) -> None:
    """Refuse a path with a name that is too long for its file system.

    Raises:
        OSError: a part of the path is too long.
    """
    existing = path.parent
    missing = [path.name]
    while not os.path.lexists(existing) and existing.name:
        missing.append(existing.name)
        existing = existing.parent
    for name in missing:
        with contextlib.suppress(FileNotFoundError):
            (existing / name).lstat()  # os.path.exists would just return False for a long name


@contextlib.contextmanager
def write_whole(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Write a file atomically, even if the program or the machine stops.

        with write_whole(path) as part:
            part.write_bytes(data)

    The content is written to a hidden file in the same folder, flushed to disk, and renamed in one
    step. Replacing a file keeps its mode and owner; for a symbolic link, the file that it points to
    is replaced.

    Args:
        path: the file to write; its folder must exist.
        overwrite: whether an existing file may be replaced. If not, a file that appears while the
            content is written is left alone too: of two writers, one fails.

    Yields:
        The path of the hidden file, which exists and is empty.

    Raises:
        ExistsError: a file or link exists and `overwrite` is False.
        OSError: the file can't be written.
    """
    path = Path(path)
    target = _behind_links(path) if overwrite else path
    part = target.with_name(f".clipmamba-{secrets.token_hex(6)}{target.suffix}")
    if not overwrite and os.path.lexists(target):
        raise _exists(path)
    try:
        part.open("xb").close()
        yield part
        _keep_mode(target, part)
        flush(part)
        if overwrite:
            part.replace(target)
        else:
            try:
                _take_free_place(part, target)
            except FileExistsError:
                raise _exists(path) from None
    finally:
        part.unlink(missing_ok=True)
    flush(target.parent)


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 2) -> None:
    """Write a value as a JSON file, atomically; its folder is created if missing.

    Raises:
        OSError: the file can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def _exists(path: Path) -> ExistsError:
    return ExistsError(f"{path} exists already; choose another name or allow --overwrite")


def _behind_links(path: Path) -> Path:
    """Resolve a symbolic link; other paths stay as they are."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _keep_mode(target: Path, part: Path) -> None:
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a folder, not a file")
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):  # only root may change the owner
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))


def _take_free_place(part: Path, target: Path) -> None:
    """Rename a file in one step, unless the target exists.

    Raises:
        FileExistsError: the target exists.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: reserve the name, then replace it
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            part.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def flush(path: Path) -> None:
    """Flush a file, or a folder's directory entries, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open a folder
    opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(opened)
    except OSError as error:  # network and user-space file systems may not support it
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(opened)


def flush_folder(folder: Path) -> None:
    """Flush everything in a folder to disk, before a rename that makes it count."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)
