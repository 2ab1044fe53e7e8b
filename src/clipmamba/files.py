"""Files, written whole or not at all; what went wrong with one, in a line."""

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
    """A file is there already and may not be replaced."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """What an exception says, without line breaks, or its name if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def reason(error: OSError) -> str:
    """Why the system refused, without the path that the message around it names."""
    return error.strerror or one_line(error)


def check_place(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Say now, before the work, whether a file could be written there.

    Raises:
        ExistsError: the file is there and may not be replaced.
        InputError: the folder is missing or read-only, the name is too long, or something that is
            no file stands in its place.
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
                raise InputError(f"can't write {path}: it is not a file but a device or a pipe")
        else:
            check_name(path)
        folder = _behind_links(path).parent
        if not os.access(folder, os.W_OK):
            raise InputError(f"can't write {path}: the folder {folder} is not writable")
    except OSError as error:
        raise InputError(f"can't write {path}: {reason(error)}") from error


def check_name(path: Path) -> None:
    """Refuse a name that no file or folder can have where the path leads.

    Raises:
        OSError: a part of the path is too long.
    """
    there = path.parent
    missing = [path.name]
    while not os.path.lexists(there) and there.name:
        missing.append(there.name)
        there = there.parent
    for name in missing:
        with contextlib.suppress(FileNotFoundError):
            (there / name).lstat()  # os.path.exists would call a name that is too long just missing


@contextlib.contextmanager
def write_whole(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Write a file whole or not at all, even if the program or the machine stops.

        with write_whole(path) as part:
            part.write_bytes(data)

    The content goes into a hidden file of the same extension beside it, reaches the disk, and
    takes the place in one step. A file that is replaced hands on its mode and owner; a link stays a
    link, and the file that it leads to is replaced.

    Args:
        path: where to; its folder must be there.
        overwrite: whether a file may be replaced. If not, a file that appears while the content is
            written is left alone, too: of two writers one fails.

    Yields:
        The hidden file, there and empty.

    Raises:
        ExistsError: there is a file, or a link, and `overwrite` is False.
        OSError: the system refuses.
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
    """Write a value as a JSON file, whole or not at all; its folder is made if it is missing.

    Raises:
        OSError: the system refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def _exists(path: Path) -> ExistsError:
    return ExistsError(f"{path} exists already; choose another name or allow --overwrite")


def _behind_links(path: Path) -> Path:
    """Where the file really is, or would be."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _keep_mode(target: Path, part: Path) -> None:
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "it is not a file but a device, a pipe or a folder")
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):  # only root gives files away
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))


def _take_free_place(part: Path, target: Path) -> None:
    """Give a file its name unless that is taken, in one step.

    Raises:
        FileExistsError: it is taken.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: hold the place, then fill it
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            part.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has left the system's memory."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle of a folder
    opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(opened)
    except OSError as error:  # network and user-space file systems may not know it
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(opened)


def flush_folder(folder: Path) -> None:
    """Flush all that is in a folder, so that no later rename reaches the disk before it."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)
