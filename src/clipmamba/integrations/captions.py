"""Captions of pictures by transformers models, BLIP by default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError
from clipmamba.files import one_line
from clipmamba.integrations.pretrained import (
    LazyModel,
    check_kind,
    check_packages,
    choose_precision,
    short_name,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image

DEFAULT_CAPTIONER = "Salesforce/blip-image-captioning-base"
MAX_TOKENS = 30

_WHAT = "captioner"
_MEDIUM = re.compile(
    r"^(an?|the|this is an?)?\s*([\w-]+\s+(and\s+)?){0,3}?"
    r"(painting|drawing|print|woodcut|etching|engraving|sketch|illustration|poster|mosaic"
    r"|watercolou?r|artwork|cartoon|picture|photo|photograph|image|close[- ]up|view)s?\s+"
    r"(of|with|showing|depicting|featuring)\s+",
    re.IGNORECASE,
)


class Captioner:
    """Describes pictures with a transformers model.

        captioner = Captioner("Salesforce/blip-image-captioning-base")
        captioner(image)  # "a church by the sea"

    The model is loaded with the first picture and stays loaded.

    Args:
        name: A folder or Hub repository with BLIP or another image-text-to-text model that
            captions a picture without a question.
        device: "auto" (CUDA if available, else the CPU) or any torch device.

    Raises:
        InputError: The package transformers is missing.
        WeightsError: The name is invalid.
    """

    def __init__(self, name: str = DEFAULT_CAPTIONER, device: str | torch.device = "auto") -> None:
        check_packages("a caption", ["transformers"], "captions")
        self.name = name
        self._device = device
        self._model = LazyModel(_WHAT, name, "config.json", ["transformers"], self._load)

    def __call__(self, picture: Image.Image) -> str:
        """Describe what a picture shows.

        Args:
            picture: An image in sRGB; any mode that Pillow converts to RGB.

        Returns:
            A short caption without words for the medium ("a painting of"), which are style.
            Deterministic: the same picture gives the same caption.

        Raises:
            InputError: The model fails, needs a question, or returns no caption.
            WeightsError: The model is missing, unreachable or damaged.
        """
        with self._model.running() as (model, processor):
            rgb = picture.convert("RGB")
            try:
                seen = processor(images=rgb, return_tensors="pt")
                pixels = seen["pixel_values"].to(model.device, model.dtype)
                words = model.generate(
                    pixel_values=pixels, do_sample=False, num_beams=1, max_new_tokens=MAX_TOKENS
                )
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"the captioner {self.name} can't describe a picture without a question "
                    f"({one_line(error)}); give another, such as {DEFAULT_CAPTIONER}"
                ) from error
            [text] = processor.batch_decode(words, skip_special_tokens=True)
        caption = without_medium(text)
        if not caption:
            raise InputError(f"the captioner {self.name} returned no caption; give one with source")
        return caption

    def __str__(self) -> str:
        return short_name(self.name)

    def _load(self, name: str, local_files_only: bool) -> tuple[Any, Any]:
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

        device = resolve_device(self._device)
        options = {"local_files_only": local_files_only}
        config = AutoConfig.from_pretrained(name, **options)
        check_kind(_WHAT, name, config, AutoModelForImageTextToText)
        processor = AutoProcessor.from_pretrained(name, **options)
        model = AutoModelForImageTextToText.from_pretrained(
            name, dtype=choose_precision(device), **options
        )
        return model.to(device).eval().requires_grad_(False), processor


def without_medium(caption: str) -> str:
    """Strip words for the medium: "an oil painting of a cat" becomes "a cat"."""
    text = " ".join(caption.split()).strip(" .")
    while (shorter := _MEDIUM.sub("", text, count=1)) != text:
        text = shorter
    return text
