"""gradio's file component, reduced to uploads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from clipmamba.errors import InputError


@dataclass(frozen=True)
class Uploaded:
    """An uploaded file.

    Attributes:
        path: its path on the server.
        name: its name in the visitor's browser.
    """

    path: Path
    name: str


def upload(**options: Any) -> gr.File:
    """Make a file component that passes functions an `Uploaded`, or a list if it takes several.

    URLs in place of an upload are refused, never fetched.
    """
    file = gr.File(**options)
    move = file.async_move_resource_to_block_cache

    async def move_file(source: Any) -> Any:
        if source is not None and "://" in str(source):
            raise InputError("upload the file; URLs are not fetched")
        return await move(source)

    # Patched on the instance: for a subclass, gradio would write a .pyi file beside this one. So no
    # event may update such a component, since gradio would make a new instance for that visitor.
    file.preprocess = _uploaded
    file.async_move_resource_to_block_cache = move_file
    return file


def _uploaded(payload: Any) -> Any:
    if payload is None:
        return None
    files = getattr(payload, "root", payload)
    several = isinstance(files, list)
    uploads = [
        Uploaded(Path(file.path), file.orig_name or Path(file.path).name)
        for file in (files if several else [files])
    ]
    return uploads if several else uploads[0]
