"""Settings of the page, and its interface to the command line; does not import gradio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipmamba.errors import ClipmambaError
from clipmamba.io import MAX_PIXELS

if TYPE_CHECKING:
    from clipmamba.pipelines.pipeline import StylizePipeline

Progress = Callable[[float, int], None]
Restyle = Callable[[Sequence[str], "StylizePipeline", Progress], "Restyled"]
"""A function that runs `clipmamba stylize` with these arguments on a loaded pipeline.

It raises `InputError` where the command would fail, and passes on exceptions from the callback.
"""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class StoppedError(ClipmambaError):
    """The visitor stopped the request."""


@dataclass(frozen=True)
class Restyled:
    """The results of one command line.

    Attributes:
        files: paths of the results, in the order of their seeds.
        remarks: the command's warnings.
    """

    files: tuple[Path, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class PageSettings:
    """How a page is served.

    Args:
        host: the address to listen on.
        port: the port to listen on; None for the first free one from 7860.
        model: folder or Hub name of a saved pipeline, or None for the default one.
        device: where to compute.
        max_pixels: limit on a photo's pixels.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    model: str | None = None
    device: str = "auto"
    max_pixels: int = MAX_PIXELS

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach the page."""
        return self.host in LOOPBACK
