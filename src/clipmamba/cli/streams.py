"""Standard streams that are closed, full or slow, as under cron, pythonw and pipes."""

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
    """Replace closed standard streams with the null device.

    Otherwise the next file opened would get the descriptor of a closed stream, and a library's
    output would end up in a picture.
    """
    _closed.clear()
    _stop_reading.clear()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(name)
            if os.open(os.devnull, os.O_RDWR) != number:  # open() takes the lowest free number
                raise
        if getattr(sys, name) is None:
            _closed.add(name)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def is_closed(name: str) -> bool:
    """Tell whether "stdin", "stdout" or "stderr" was closed at the start."""
    return name in _closed


def output_is_lost() -> bool:
    """Tell whether some output could not be written to standard output."""
    return "full" in _closed


def echo(text: str | bytes, *, err: bool = False) -> None:
    """Print a line. If stdout is full, report it once and carry on."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        if err:  # nowhere else to report it
            _drop("stderr", 2)
        elif error.errno == errno.EPIPE:  # the reader is gone; click handles this
            raise
        else:
            lose_output(error)


def lose_output(error: OSError) -> None:
    """Report that standard output can't be written, and discard what follows."""
    _closed.add("full")
    _drop("stdout", 1)
    echo(f"Error: can't write to standard output: {reason(error)}", err=True)


def write_output(data: bytes) -> None:
    """Write a picture to standard output.

    Raises:
        InputError: it is full.
        BrokenPipeError: the reader is gone.
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
        InputError: it is empty or can't be read.
    """
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by an object without a descriptor
        data = sys.stdin.buffer.read()
    else:
        with _in_text(sys.stdin.name):
            data = _read_all(number)
    if not data:
        raise InputError("standard input is empty: pipe a picture into it")
    return data


def read_pipe(path: str | os.PathLike[str]) -> bytes:
    """Read a pipe or device to its end.

    Raises:
        InputError: it can't be read.
    """
    with _in_text(os.fspath(path)):
        return _read_all(path)


def stop_reading() -> None:
    """Give up waiting for pipes: their other ends may never write."""
    _stop_reading.set()


def _read_all(source: int | str | os.PathLike[str]) -> bytes:
    """Read in a daemon thread, so that the wait can be given up."""
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
        raise InputError(f"the pipe holds more than {MAX_STREAM >> 30} GiB: not a picture")
    return b"".join(parts)


@contextlib.contextmanager
def _in_text(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"can't read {name}: {reason(error)}") from error


def _drop(name: str, number: int) -> None:
    """Redirect a stream to the null device, or Python's flush at exit would fail."""
    stream = getattr(sys, name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
