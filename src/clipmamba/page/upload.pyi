"""gradio's file component, without what it has for other purposes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from clipmamba.errors import InputError

@dataclass(frozen=True)
class Uploaded:
    """A file of the visitor's.

    Attributes:
        path: where it is here.
        name: what the visitor's browser calls it.
    """

    path: Path
    name: str

from gradio.events import Dependency

class Upload(gr.File):  # type: ignore[misc]
    """A file under the name it has at the visitor's; no address of a server."""

    def preprocess(self, payload: Any) -> Any:
        """Give an `Uploaded`, or a list of them where there may be several."""
        if payload is None:
            return None
        files = getattr(payload, "root", payload)
        if not isinstance(files, list):
            return Uploaded(Path(files.path), files.orig_name or Path(files.path).name)
        return [Uploaded(Path(one.path), one.orig_name or Path(one.path).name) for one in files]

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        """Refuse to fetch what an address names."""
        if url_or_file_path is not None and "://" in str(url_or_file_path):
            raise InputError("a file must be uploaded; addresses are not fetched")
        path: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return path

    def get_block_name(self) -> str:
        """The browser's part of it is that of gradio's own."""
        return "file"
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component
