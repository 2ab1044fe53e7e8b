"""``clipmamba models``."""

from __future__ import annotations

import click

from clipmamba.weights import released, verify


@click.command()
@click.option("--check", is_flag=True, help="Verify every file against its SHA-256.")
def models(check: bool) -> None:
    """List the weights that ship with the package.

    \b
    clipmamba models
    clipmamba models --check
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    for weights in released():
        if check:
            verify(weights)
        verified = " (verified)" if check else ""
        click.echo(f"{weights.name}: {weights.about}{verified}")
        click.echo(f"  {weights.path()}")
        click.echo(f"  {weights.bytes / 1e6:.1f} MB, sha256 {weights.sha256}")
        click.echo(f"  {weights.licence}")
