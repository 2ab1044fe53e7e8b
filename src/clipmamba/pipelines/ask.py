"""The style that a call asks for, from its keywords; no torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.styles.request import StyleRequest

if TYPE_CHECKING:
    from clipmamba.styles.resolve import ResolvedStyle


def read_prompt(text: Any, prompt: Any) -> Any:
    """Read the words of a call under either of two names.

    Raises:
        InputError: Both are given.
    """
    if text is not None and prompt is not None:
        raise InputError("text and prompt mean the same: give only one of them")
    return prompt if text is None else text


def read_style(
    prompt: Any, style_image: Any, style: Any, *rest: Any, faces: str = "style"
) -> StyleRequest | ResolvedStyle:
    """Read the style of a call: a request, or a prepared style on its own.

    Args:
        prompt: See `StyleRequest.parse`.
        style_image: See `StyleRequest.parse`.
        style: See `StyleRequest.parse`; or the result of `StylizePipeline.prepare`.
        rest: The other arguments of `StyleRequest.parse`, in order.
        faces: See `StyleRequest.parse`.

    Raises:
        InputError: See `StyleRequest`; or a prepared style is combined with something else.
    """
    if type(style).__name__ != "ResolvedStyle":  # by name: its module loads torch
        return StyleRequest.parse(prompt, style_image, style, *rest, faces=faces)
    parts = (prompt, style_image, *rest)
    empty = (part is None or (isinstance(part, list | tuple | dict) and not part) for part in parts)
    if faces != "style" or not all(empty):
        raise InputError("a prepared style can't be combined: prepare it with the rest")
    prepared: ResolvedStyle = style
    return prepared
