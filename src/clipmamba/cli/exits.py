"""How a command ends: its exit code, and one line on stderr for each error."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from clipmamba.cli.streams import echo, lose_output, open_standard_streams, output_is_lost
from clipmamba.errors import ClipmambaError, WeightsError

SOME_FAILED = 1
USAGE_ERROR = 2
NO_WEIGHTS = 3
INTERRUPTED = 130

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

EXIT_CODES = {
    0: "success",
    SOME_FAILED: "some pictures failed, the others are written; or standard output is full",
    USAGE_ERROR: "nothing was done: an option is invalid, or no picture could be read",
    NO_WEIGHTS: "weights are missing, damaged or do not fit",
    INTERRUPTED: "interrupted by Ctrl-C; no picture is half-written, a video ends early",
}


class PoliteGroup(click.Group):
    """A command group that reports every failure as one line on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in order of use, the main one first."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; if a file is given in its place, suggest 'stylize'."""
        if args and self.get_command(ctx, args[0]) is None and os.path.lexists(args[0]):
            ctx.fail(f'{args[0]} is not a command; try: clipmamba stylize {args[0]} -p "ukiyo-e"')
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        """Run a command and exit; see :data:`EXIT_CODES`."""
        open_standard_streams()
        kwargs["standalone_mode"] = False
        code: Any = SOME_FAILED
        try:
            with _terminated_politely():
                code = super().main(*args, **kwargs)
        except (click.Abort, KeyboardInterrupt):
            echo("Interrupted.", err=True)
            # Python remembers an interrupt inside an `exec()`, such as a dataclass's, and with -m
            # dies of the signal in the end; the next `exec()` makes it forget.
            exec("")
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "clipmamba"
            _fail(f"{error.format_message()} (see '{command} --help')", USAGE_ERROR)
        except click.ClickException as error:
            _fail(error.message, USAGE_ERROR)
        except WeightsError as error:
            _fail(str(error), NO_WEIGHTS)
        except ClipmambaError as error:
            _fail(str(error), USAGE_ERROR)
        except OSError as error:  # errors of files are handled where the files are opened
            if error.filename is not None or error.errno not in _NO_ROOM:
                raise
            lose_output(error)
        code = code if isinstance(code, int) else 0
        sys.exit(code or (SOME_FAILED if output_is_lost() else 0))


@contextlib.contextmanager
def _terminated_politely() -> Iterator[None]:
    """Let `kill` and `timeout` end a command as cleanly as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def error_line(message: str) -> str:
    """Format an error as one line, whatever the message holds."""
    return "Error: " + " ".join(message.split())


def _fail(message: str, code: int) -> NoReturn:
    echo(error_line(message), err=True)
    sys.exit(code)
