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


def upload(**options: Any) -> gr.File:
    """A file component that gives functions an `Uploaded`, or a list where there may be several.

    It fetches nothing: addresses of other servers in the place of an upload are refused.
    """
    file = gr.File(**options)
    move = file.async_move_resource_to_block_cache

    async def move_file(source: Any) -> Any:
        if source is not None and "://" in str(source):
            raise InputError("a file must be uploaded; addresses are not fetched")
        return await move(source)

    # On the object: for a subclass, gradio would write a file beside this one. So no event may give
    # such a component an update, for which gradio would make a new object for that visitor.
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
