"""Standard streams that are closed, full or slow, as cron, pythonw and pipes give them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator

import click

from clipmamba.errors import InputError
from clipmamba.files import reason
from clipmamba.io.picture import MAX_STREAM

_CHUNK = 1 << 20
_closed: set[str] = set()  # streams that this process was started without
_stop_reading = threading.Event()


def open_standard_streams() -> None:
    """Put the null device in the place of streams that are closed.

    Otherwise the next file that is opened would get the number of such a stream, and what a library
    writes to it would end up in a picture.
    """
    _closed.clear()
    _stop_reading.clear()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(name)
            if os.open(os.devnull, os.O_RDWR) != number:  # the lowest free number is this one
                raise
        if getattr(sys, name) is None:
            _closed.add(name)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def is_closed(name: str) -> bool:
    """Tell whether "stdin", "stdout" or "stderr" leads nowhere."""
    return name in _closed


def output_is_lost() -> bool:
    """Tell whether something could not be said on standard output."""
    return "full" in _closed


def echo(text: str | bytes, *, err: bool = False) -> None:
    """Print a line. Where there is no room for it, the work goes on, and a line says so once."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        if err:  # there is nobody else to tell
            _drop("stderr", 2)
        elif error.errno == errno.EPIPE:  # the reader has left, which click knows how to end
            raise
        else:
            lose_output(error)


def lose_output(error: OSError) -> None:
    """Say that standard output takes no more, and write to nowhere from now on."""
    _closed.add("full")
    _drop("stdout", 1)
    echo(f"Error: can't write to standard output: {reason(error)}", err=True)


def write_output(data: bytes) -> None:
    """Write a picture to standard output.

    Raises:
        InputError: it is full.
        BrokenPipeError: the reader has left.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop("stdout", 1)
        raise InputError(f"can't write to standard output: {reason(error)}") from error


def read_input() -> bytes:
    """Read standard input to its end.

    Raises:
        InputError: there is nothing.
    """
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by something else
        data = sys.stdin.buffer.read()
    else:
        with _in_text(sys.stdin.name):
            data = _read_all(number)
    if not data:
        raise InputError("the standard input is empty: pipe a picture into it")
    return data


def read_pipe(path: str | os.PathLike[str]) -> bytes:
    """Read what is no ordinary file to its end.

    Raises:
        InputError: it can't be read.
    """
    with _in_text(os.fspath(path)):
        return _read_all(path)


def stop_reading() -> None:
    """Give up what waits for a pipe: its other end may never write."""
    _stop_reading.set()


def _read_all(source: int | str | os.PathLike[str]) -> bytes:
    """Read in a thread of its own, which nobody has to wait for."""
    parts: list[bytes] = []
    problems: list[OSError] = []

    def read() -> None:
        try:
            number = source if isinstance(source, int) else os.open(source, os.O_RDONLY)
            size = 0
            while size <= MAX_STREAM and (part := os.read(number, _CHUNK)):
                parts.append(part)
                size += len(part)
            if not isinstance(source, int):
                os.close(number)
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if _stop_reading.is_set():
            raise InputError("interrupted while waiting for a pipe")
    if problems:
        raise problems[0]
    if sum(map(len, parts)) > MAX_STREAM:
        raise InputError(f"a pipe gives more than {MAX_STREAM >> 30} GiB: that is no picture")
    return b"".join(parts)


@contextlib.contextmanager
def _in_text(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"can't read {name}: {reason(error)}") from error


def _drop(name: str, number: int) -> None:
    """Let a stream end nowhere: Python would write what it still holds at its own end, and fail."""
    stream = getattr(sys, name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
