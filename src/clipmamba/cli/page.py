"""``clipmamba page``."""

from __future__ import annotations

import contextlib
import threading
import webbrowser

import click

from clipmamba.cli.options import MAX_PIXELS_OPTION, MODEL, SectionCommand, option, section
from clipmamba.devices import check_device
from clipmamba.page.settings import PageSettings
from clipmamba.pipelines.saved import read_index


@click.command(cls=SectionCommand)
@section(
    "Page",
    option("--host", metavar="ADDRESS", default=PageSettings.host, show_default=True,
           help="Address to listen on; 0.0.0.0 admits other machines, without a password."),
    option("--port", type=click.IntRange(1, 65535), metavar="N",
           help="Port to listen on.  [default: the first free port from 7860]"),
    option("--open", "open_browser", is_flag=True, help="Open the page in your browser."),
    MAX_PIXELS_OPTION,
)  # fmt: skip
@MODEL
def page(
    host: str,
    port: int | None,
    open_browser: bool,
    max_pixels: int,
    device: str,
    model: str | None,
) -> None:
    """Serve a web page that restyles photos.

    The address of the page is printed to standard output; Ctrl-C stops the server. Pictures stay
    on this machine: uploads are deleted an hour after their last use and when the server stops.
    Needs: pip install 'clipmamba[page]'

    \b
    clipmamba page --open
    clipmamba page --host 0.0.0.0 --port 8080 --max-pixels 20000000
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    check_device(device)
    if model is not None:
        read_index(model)
    settings = PageSettings(host, port, model, device, max_pixels)

    from clipmamba.cli.resident import restyle
    from clipmamba.page.server import serving

    with (
        contextlib.suppress(KeyboardInterrupt),  # the usual way to end it
        serving(settings, restyle) as address,
    ):
        click.echo(address)
        if open_browser:
            webbrowser.open(address)
        threading.Event().wait()
