"""The known styles on a small copy of a photo, as pictures inside the page's own text."""

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
_INTERVAL = 0.5  # seconds between two messages to the browser


class Thumbnails:
    """Makes them one by one, so that a visitor who restyles waits for one only.

    Args:
        network: makes them.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._styles: dict[str, ResolvedStyle] = {}  # the same for every photo

    def of(self, photo: Image.Image) -> Iterator[dict[str, str]]:
        """Yield all that are made so far, by the style's name, as `data:` addresses.

        Args:
            photo: sRGB; a square is cut from its middle.
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
    """A picture as a `data:` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def buttons() -> str:
    """One button for each known style, as HTML; the pictures come later."""
    return "".join(
        f'<button type="button" data-style="{name}" aria-pressed="false">'
        f'<span class="thumbnail"></span><span class="name">{name}</span></button>'
        for name in (html.escape(style.name, quote=True) for style in KNOWN_STYLES)
    )
