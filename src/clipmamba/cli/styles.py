"""``clipmamba styles``."""

from __future__ import annotations

import itertools

import click

from clipmamba.styles.known import KNOWN_STYLES, KnownStyle, find_style, search_styles


@click.command()
@click.argument("word", nargs=-1)
def styles(word: tuple[str, ...]) -> None:
    """List the known styles, or those that match WORD.

    Aliases are listed beside each style. Any words can be a prompt; these are the ones to try
    first.

    \b
    clipmamba styles
    clipmamba styles print
    clipmamba styles ukiyoe
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    wanted = " ".join(word)
    found = search_styles(wanted) if wanted else list(KNOWN_STYLES)
    for family, members in itertools.groupby(
        found or [find_style(wanted)], lambda style: style.family
    ):
        click.echo(f"{family}:")
        for style in members:
            click.echo(_line(style))


def _line(style: KnownStyle) -> str:
    return f"  {style.name:<28} {', '.join(style.aliases)}".rstrip()
