"""Progress and warnings for a person at a terminal, all on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

import click

from clipmamba.cli.streams import echo


class _OneLine(logging.Handler):
    """A log handler that prints warnings in the style of the other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings as one line each, without Python's source location."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        warn(str(message))

    logger, handler = logging.getLogger("clipmamba"), _OneLine(logging.WARNING)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False  # libraries add handlers to the root
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@contextlib.contextmanager
def status(text: str) -> Iterator[None]:
    """Show a status line inside the block, on stderr if it is a terminal."""
    shown = sys.stderr.isatty()
    if shown:
        click.echo(f"{text} ...", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextlib.contextmanager
def progress(count: int) -> Iterator[Callable[[float], None]]:
    """Show a progress bar with the time left, on stderr if it is a terminal.

    Args:
        count: number of pictures to make.

    Yields:
        A function to call with the number of pictures made so far, fractions included.
    """
    from tqdm import tqdm

    shape = "{percentage:3.0f}%|{bar:30}| {n:.0f}/{total} pictures, {remaining} left"
    shown = sys.stderr.isatty()
    with tqdm(total=count, disable=not shown, leave=False, bar_format=shape) as bar:

        def advance(made: float) -> None:
            bar.update(made - bar.n)

        yield advance


def say(text: str | bytes, *, err: bool = False) -> None:
    """Print a line without breaking the progress bar; bytes serve for any file name."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        echo(text, err=err)


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    say("Warning: " + " ".join(message.split()), err=True)
