"""CLIP text and image embeddings, by our own towers or open_clip."""

from __future__ import annotations

from clipmamba.clip.model import Clip
from clipmamba.clip.preprocess import preprocess
from clipmamba.clip.templates import SOURCE_TEXT, TEMPLATES, encode_prompt
from clipmamba.clip.views import VIEWS, encode_picture

__all__ = [
    "SOURCE_TEXT",
    "TEMPLATES",
    "VIEWS",
    "Clip",
    "encode_picture",
    "encode_prompt",
    "preprocess",
]
