"""Finding parts of a picture by words, with CLIPSeg or another transformers segmenter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError
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
    from torch import Tensor

_WHAT = "segmenter"


class Segmenter:
    """Finds parts of a picture by words, with a transformers model.

        segmenter = Segmenter("CIDAS/clipseg-rd64-refined")
        mask = segmenter(image, "the red boat")

    CLIPSeg takes any words; a model for semantic segmentation, such as SegFormer, takes its class
    names. The model is loaded for the first picture and stays loaded.

    Args:
        name: A folder, or the name of a model of the Hub.
        device: "auto" (CUDA if available, else the CPU) or any torch device.

    Raises:
        InputError: The package transformers is missing.
        WeightsError: The name is invalid.
    """

    def __init__(self, name: str, device: str | torch.device = "auto") -> None:
        check_packages("a segmenter", ["transformers"], "captions")
        self.name = name
        self._device = device
        self._model = LazyModel(_WHAT, name, "config.json", ["transformers"], self._load)

    def __call__(self, picture: Image.Image, words: str) -> Tensor:
        """Find a part of a picture.

        Args:
            picture: An image in sRGB; any mode that Pillow converts to RGB.
            words: What to look for.

        Returns:
            How likely each place belongs to it, (h, w) in [0, 1], at the model's resolution.

        Raises:
            InputError: The words are too long or not a class of the model, or the model fails.
            WeightsError: The model is missing, can't be reached, or is damaged.
        """
        found: Tensor
        with self._model.running() as (model, processor):
            rgb = picture.convert("RGB")
            if model.config.model_type == "clipseg":
                seen = processor(text=[words], images=[rgb], return_tensors="pt")
                self._check_length(words, seen["input_ids"], model.config.text_config)
                logits = model(**_on(seen, model)).logits
                found = logits.reshape(-1, *logits.shape[-2:])[0].sigmoid()
            else:
                number = self._class(model, words)
                seen = processor(images=[rgb], return_tensors="pt")
                found = model(**_on(seen, model)).logits[0].softmax(0)[number]
        return found.float().cpu()

    def __str__(self) -> str:
        return short_name(self.name)

    def _check_length(self, words: str, tokens: Tensor, config: Any) -> None:
        longest = config.max_position_embeddings
        if tokens.shape[1] > longest:
            raise InputError(
                f"these words are too long for the segmenter {self}, which reads {longest} tokens, "
                f"not {tokens.shape[1]}: {words!r}"
            )

    def _class(self, model: Any, words: str) -> int:
        """The number of the class with this name, or with this as one of its names."""
        wanted = " ".join(words.lower().split())
        for number, label in model.config.id2label.items():
            names = [name.strip().lower() for name in str(label).replace(";", ",").split(",")]
            if wanted in names:
                return int(number)
        some = ", ".join(str(label) for label in list(model.config.id2label.values())[:8])
        raise InputError(f"the segmenter {self} has no class {words!r}; it has {some} and others")

    def _load(self, name: str, local_files_only: bool) -> tuple[Any, Any]:
        from transformers import (
            AutoConfig,
            AutoImageProcessor,
            AutoModelForSemanticSegmentation,
            AutoProcessor,
            CLIPSegForImageSegmentation,
        )

        device = resolve_device(self._device)
        options = {"local_files_only": local_files_only}
        config = AutoConfig.from_pretrained(name, **options)
        by_words = config.model_type == "clipseg"
        if not by_words:
            check_kind(_WHAT, name, config, AutoModelForSemanticSegmentation)
        processor = (AutoProcessor if by_words else AutoImageProcessor).from_pretrained(
            name, **options
        )
        kind = CLIPSegForImageSegmentation if by_words else AutoModelForSemanticSegmentation
        model = kind.from_pretrained(name, dtype=choose_precision(device), **options)
        return model.to(device).eval().requires_grad_(False), processor


def _on(seen: Any, model: Any) -> dict[str, Any]:
    """Move a processor's tensors to the model's device, floating ones to its precision."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in seen.items()
    }
