"""Thumbnails of the known styles on a small copy of a photo, as `data:` URLs."""

from __future__ import annotations

import base64
import functools
import html
import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from clipmamba.page.network import Network
from clipmamba.styles.known import KNOWN_STYLES
from clipmamba.styles.request import StyleRequest

if TYPE_CHECKING:
    from clipmamba.pipelines.pipeline import StylizePipeline
    from clipmamba.styles.resolve import ResolvedStyle

SIDE = 192  # pixels
_INTERVAL = 0.5  # seconds between updates to the browser


class Thumbnails:
    """Makes thumbnails one at a time, so that a restyling waits for one of them at most.

    Args:
        network: the pipeline and its thread.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._styles: dict[str, ResolvedStyle] = {}  # the same for every photo

    def of(self, photo: Image.Image) -> Iterator[dict[str, str]]:
        """Yield the thumbnails made so far, as `data:` URLs by style name.

        Args:
            photo: sRGB; its central square is used.
        """
        small = ImageOps.fit(photo, (SIDE, SIDE), Image.Resampling.LANCZOS)
        found: dict[str, str] = {}
        told = 0.0
        for style in KNOWN_STYLES:
            work = functools.partial(self._make, small, style.name)
            found[style.name] = address(self._network.run(work))
            if time.monotonic() - told > _INTERVAL:
                yield dict(found)
                told = time.monotonic()
        yield found

    def _make(self, photo: Image.Image, name: str, pipeline: StylizePipeline) -> Image.Image:
        if name not in self._styles:
            self._styles[name] = pipeline.prepare(StyleRequest.parse(name))
        result: Image.Image = pipeline(photo, style=self._styles[name]).images[0]
        return result


def address(picture: Image.Image) -> str:
    """Encode a picture as a `data:` URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def buttons() -> str:
    """Return HTML with a button per known style; the pictures come later."""
    return "".join(
        f'<button type="button" data-style="{name}" aria-pressed="false">'
        f'<span class="thumbnail"></span><span class="name">{name}</span></button>'
        for name in (html.escape(style.name, quote=True) for style in KNOWN_STYLES)
    )
