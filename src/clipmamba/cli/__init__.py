"""The command line: parse, check, run. Nothing heavy is imported before a command really works."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from clipmamba import __version__
from clipmamba.cli.env import env
from clipmamba.cli.stylize import stylize
from clipmamba.errors import ClipmambaError

USAGE_ERROR = 2
INTERRUPTED = 130


class _Group(click.Group):
    """A group whose every failure is one line on stderr and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "clipmamba"
            _fail(f"{error.format_message()} (see '{command} --help')")
        except (click.ClickException, ClipmambaError) as error:
            _fail(error.message if isinstance(error, click.ClickException) else str(error))
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="clipmamba")
@click.pass_context
def main(context: click.Context) -> None:
    """Restyle photos from words.

    \b
    clipmamba stylize photo.jpg --prompt "ukiyo-e"
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(stylize)
main.add_command(env)


def _fail(message: str) -> NoReturn:
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(USAGE_ERROR)
