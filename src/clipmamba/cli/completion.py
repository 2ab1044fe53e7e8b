"""``clipmamba completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "clipmamba"
VARIABLE = "_CLIPMAMBA_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands, options, file names and styles.

    \b
    eval "$(clipmamba completion bash)"       # in ~/.bashrc
    eval "$(clipmamba completion zsh)"        # in ~/.zshrc
    clipmamba completion fish > ~/.config/fish/completions/clipmamba.fish
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
