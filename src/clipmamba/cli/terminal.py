"""What a person at a terminal sees: progress and warnings, all on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

import click

from clipmamba.cli.streams import echo


class _OneLine(logging.Handler):
    """Logged warnings in the form of this program's other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Say a warning as one line, without the place in the source that Python puts before it."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        warn(str(message))

    logger, handler = logging.getLogger("clipmamba"), _OneLine(logging.WARNING)
    logger.addHandler(handler)
    spread, logger.propagate = logger.propagate, False  # libraries give the root a handler too
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = spread


@contextlib.contextmanager
def status(text: str) -> Iterator[None]:
    """Show what is going on, to a person only: on stderr if that is a terminal."""
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
    """A bar with the time left, on stderr if that is a terminal.

    Args:
        count: pictures to make.

    Yields:
        A function that takes how many are made, parts of one included.
    """
    from tqdm import tqdm

    shape = "{percentage:3.0f}%|{bar:30}| {n:.0f}/{total} pictures, {remaining} left"
    shown = sys.stderr.isatty()
    with tqdm(total=count, disable=not shown, leave=False, bar_format=shape) as bar:

        def advance(made: float) -> None:
            bar.update(made - bar.n)

        yield advance


def say(text: str | bytes, *, err: bool = False) -> None:
    """Print a line without tearing the bar; bytes for names of files, any of which can be said."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        echo(text, err=err)


def warn(message: str) -> None:
    """Say a warning as one line on stderr."""
    say("Warning: " + " ".join(message.split()), err=True)
