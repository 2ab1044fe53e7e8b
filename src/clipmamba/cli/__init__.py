"""The command line: parse, check, run. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import click

from clipmamba import __version__
from clipmamba.cli.compare import compare
from clipmamba.cli.completion import completion
from clipmamba.cli.embed import embed
from clipmamba.cli.env import env
from clipmamba.cli.exits import PoliteGroup
from clipmamba.cli.export import export
from clipmamba.cli.models import models
from clipmamba.cli.page import page
from clipmamba.cli.sheet import sheet
from clipmamba.cli.styles import styles
from clipmamba.cli.stylize import stylize
from clipmamba.cli.video import video


@click.group(
    cls=PoliteGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="clipmamba")
@click.pass_context
def main(context: click.Context) -> None:
    """Restyle photos from text prompts.

    \b
    clipmamba stylize photo.jpg --prompt "ukiyo-e"
    clipmamba sheet photo.jpg
    clipmamba styles paint
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    stylize,
    video,
    page,
    sheet,
    compare,
    styles,
    embed,
    export,
    models,
    env,
    completion,
):
    main.add_command(_command)
