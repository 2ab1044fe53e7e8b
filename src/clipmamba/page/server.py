"""Serve the page; nothing is loaded from or sent to other servers."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.page.folder import page_folder
from clipmamba.page.network import Network
from clipmamba.page.settings import LOOPBACK, PageSettings, Restyle
from clipmamba.pipelines.pipeline import StylizePipeline

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD = "512mb"
WAITING = 256  # limit of queued requests
_SESSIONS = 1000  # limit of visitors whose state is kept
# The routes that the page needs. gradio's other routes stay closed, among them those that fetch
# addresses for a visitor.
_OPEN = re.compile(
    r"/($|config$|theme\.css$|manifest\.json$|favicon\.ico$|robots\.txt$|assets/|static/|svelte/"
    r"|gradio_api/(info|openapi\.json|app_id|startup-events|heartbeat/|upload|queue/|call/|cancel$"
    r"|reset|file=(?!\w+:)))"
)
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """Middleware that closes unneeded routes and forbids browsers to load from other servers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not _OPEN.match(scope["path"]):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("Not found", 404)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, guarded)


@contextlib.contextmanager
def serving(settings: PageSettings, restyle: Restyle) -> Iterator[str]:
    """Load the model and serve the page.

    Args:
        settings: address, port and model.
        restyle: runs `clipmamba stylize`.

    Yields:
        The page's address; it is served until the context ends.

    Raises:
        InputError: gradio is missing, or the address or port can't be used.
        WeightsError: the model can't be loaded.
    """
    with page_folder() as folder:
        cache = folder / "cache"
        cache.mkdir()
        _settle_gradio(str(cache))
        try:
            from clipmamba.page.app import Page
            from clipmamba.page.events import build
            from clipmamba.page.layout import HERE, theme
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "gradio":
                raise
            raise InputError("the page needs gradio: pip install 'clipmamba[page]'") from error
        _check_address(settings)  # before the model takes its seconds
        network = Network(
            functools.partial(StylizePipeline.from_pretrained, settings.model, settings.device)
        )
        try:
            page = Page(settings, network, restyle, cache)
            blocks = build(page).queue(max_size=WAITING, api_open=True)
            network.wait()
            try:
                _, address, _ = blocks.launch(
                    theme=theme(), css_paths=HERE / "look.css", server_name=settings.host,
                    server_port=settings.port, app_kwargs={"middleware": _middleware(settings)},
                    max_file_size=MAX_UPLOAD, state_session_capacity=_SESSIONS,
                    prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
                    footer_links=[], run_history=False, enable_monitoring=False, ssr_mode=False,
                    pwa=False, mcp_server=False,
                )  # fmt: skip
            except OSError as error:
                raise _cannot_listen(settings) from error
            try:
                yield address
            finally:
                page.close()
                blocks.close(verbose=False)
        finally:
            network.close()


def _check_address(settings: PageSettings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port or 0), family=family).close()
    except OSError as error:
        raise _cannot_listen(settings) from error


def _cannot_listen(settings: PageSettings) -> InputError:
    where = f"{settings.host}:{settings.port or '7860 and the next hundred ports'}"
    return InputError(f"can't listen on {where}: is it in use? Choose another --port")


def _settle_gradio(cache: str) -> None:
    """Override environment variables that would weaken the page's guarantees."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=cache,
        GRADIO_EXAMPLES_CACHE=cache,
        HF_HUB_DISABLE_TELEMETRY="1",
        DO_NOT_TRACK="1",
    )


def _middleware(settings: PageSettings) -> list[Any]:
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    parts = [Middleware(Guard)]
    if settings.is_local:  # against DNS rebinding
        parts.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"]))
    return parts
