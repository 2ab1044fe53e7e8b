"""Text and image embeddings: the one wrapper around open_clip."""

from __future__ import annotations

from clipmamba.clip.model import Clip
from clipmamba.clip.preprocess import preprocess
from clipmamba.clip.templates import SOURCE_TEXT, TEMPLATES, encode_prompt

__all__ = ["SOURCE_TEXT", "TEMPLATES", "Clip", "encode_prompt", "preprocess"]
