"""Prompt templates: several phrasings of a style, averaged into one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError

if TYPE_CHECKING:
    from clipmamba.clip.model import Clip

SOURCE_TEXT = "a photo"
"""Caption of an unstyled picture: the origin of every text direction."""

TEMPLATES: tuple[str, ...] = (
    "{}",
    "{} style",
    "{}, a work of art",
    "a picture in the style of {}",
    "a painting in the style of {}",
    "an image rendered as {}",
    "artwork: {}",
)


def encode_prompt(
    clip: Clip, prompts: str | Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """Embed B prompts as unit rows (B, E), each the renormalized mean over the templates.

    A template that would push a prompt's words out of the context is skipped for that prompt; if
    none fits, the prompt is used alone (and `Clip.encode_text` warns about what it drops).

    Args:
        clip: The CLIP model.
        prompts: One or several prompts.
        templates: Templates, each with `{}` where the prompt goes.

    Raises:
        InputError: There is no prompt, one is empty, or a template lacks `{}`.
    """
    if not templates or any("{}" not in template for template in templates):
        raise InputError("every prompt template needs a {} where the prompt goes")
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts or any(not text.strip() for text in texts):
        raise InputError("a prompt is empty; give some words")
    groups = []
    for text in texts:
        filled = [template.replace("{}", text) for template in templates]
        groups.append([t for t in filled if clip.count_tokens(t) <= clip.context_length] or [text])
    embeddings = clip.encode_text([text for group in groups for text in group])
    means = [part.mean(0) for part in torch.split(embeddings, [len(group) for group in groups])]
    return F.normalize(torch.stack(means), dim=-1)
