"""Where in a picture words are: a segmenter of transformers, CLIPSeg before all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError
from clipmamba.integrations.pretrained import (
    check_name,
    check_packages,
    choose_precision,
    load_model,
    quiet,
    short_name,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

_WHAT = "segmenter"


class Segmenter:
    """Finds what words name in a picture, by a model of transformers.

        segmenter = Segmenter("CIDAS/clipseg-rd64-refined")
        mask = segmenter(image, "the red boat")

    CLIPSeg takes any words; a model for semantic segmentation, such as SegFormer, the names of the
    classes that it was trained with. The model is loaded at the first picture and stays loaded.

    Args:
        name: A folder, or a hub's repository.
        device: "auto" (CUDA if there is one, else the CPU) or any of torch's.

    Raises:
        InputError: The package transformers is missing.
        WeightsError: There can't be a model of that name.
    """

    def __init__(self, name: str, device: str | torch.device = "auto") -> None:
        check_packages("a segmenter", ["transformers"], "captions")
        check_name(_WHAT, name, "config.json")
        self.name = name
        self._device = device
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, picture: Image.Image, words: str) -> Tensor:
        """Find a part of a picture.

        Args:
            picture: An image in sRGB; any mode that Pillow converts to RGB.
            words: What is looked for.

        Returns:
            How likely each place belongs to it, (h, w) in [0, 1], at the model's own resolution.

        Raises:
            InputError: The model has classes, and the words are none of them.
            WeightsError: The model is missing, out of reach or damaged.
        """
        import torch

        with self._lock:
            if self._loaded is None:
                self._loaded = load_model(
                    _WHAT, self.name, "config.json", ["transformers"], self._load
                )
            model, processor = self._loaded
            found: Tensor
            with quiet(["transformers"]), torch.inference_mode():
                rgb = picture.convert("RGB")
                if model.config.model_type == "clipseg":
                    seen = processor(text=[words], images=[rgb], return_tensors="pt")
                    logits = model(**_on(seen, model)).logits
                    found = logits.reshape(-1, *logits.shape[-2:])[0].sigmoid()
                else:
                    number = self._class(model, words)
                    seen = processor(images=[rgb], return_tensors="pt")
                    found = model(**_on(seen, model)).logits[0].softmax(0)[number]
        return found.float().cpu().clone()

    def __str__(self) -> str:
        return short_name(self.name)

    def _class(self, model: Any, words: str) -> int:
        """The number of the class that has these words for a name, or for one of its names."""
        wanted = " ".join(words.lower().split())
        for number, label in model.config.id2label.items():
            names = [name.strip().lower() for name in str(label).replace(";", ",").split(",")]
            if wanted in names:
                return int(number)
        some = ", ".join(str(label) for label in list(model.config.id2label.values())[:8])
        raise InputError(f"the segmenter {self} knows no {words!r}; it knows {some} and so on")

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
        by_words = AutoConfig.from_pretrained(name, **options).model_type == "clipseg"
        processor = (AutoProcessor if by_words else AutoImageProcessor).from_pretrained(
            name, **options
        )
        kind = CLIPSegForImageSegmentation if by_words else AutoModelForSemanticSegmentation
        model = kind.from_pretrained(name, dtype=choose_precision(device), **options)
        return model.to(device).eval().requires_grad_(False), processor


def _on(seen: Any, model: Any) -> dict[str, Any]:
    """A processor's tensors where the model is, floating ones in its precision."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in seen.items()
    }
