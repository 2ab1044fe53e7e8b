"""What a page is told when it starts, and what it hands to the command line; no gradio here."""

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
"""Do what `clipmamba stylize` does with these arguments, with a pipeline that is loaded already.

It raises an `InputError` where the command would fail, and lets through what the callback raises.
"""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class StoppedError(ClipmambaError):
    """The visitor wants this picture no more."""


@dataclass(frozen=True)
class Restyled:
    """What became of one command line.

    Attributes:
        files: the results, in the order of their seeds.
        remarks: what the command would have warned about.
    """

    files: tuple[Path, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class PageSettings:
    """How a page is served.

    Args:
        host: the address to listen on.
        port: None for the first free one from 7860 on.
        model: a saved pipeline's folder or name on the hub, or None for the default one.
        device: where to compute.
        max_pixels: larger photos are refused.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    model: str | None = None
    device: str = "auto"
    max_pixels: int = MAX_PIXELS

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK
