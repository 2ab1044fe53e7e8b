"""`Clip`: unit embeddings of texts and pictures, from our own towers or open_clip's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.clip.loading import LoadedClip, load_clip
from clipmamba.clip.preprocess import preprocess
from clipmamba.errors import InputError
from clipmamba.weights import loading


class Clip(torch.nn.Module):
    """A frozen CLIP model that computes unit embeddings of texts and pictures.

    It is always in evaluation mode. No parameter requires a gradient, but `encode_image` passes
    gradients to the pixels.

    Args:
        loaded: A model with its weights and tokenizer.
        name: The name given to `from_pretrained`.

    Attributes:
        name: The name given to `from_pretrained`.
        embed_dim: Width E of the embeddings.
        context_length: Number of tokens that the model reads, start and end included.
        image_size: Side of the model's input in pixels (the longer one if it is not square).

    Examples:
        >>> clip = Clip.from_pretrained()
        >>> words = clip.encode_text(["ukiyo-e", "a Japanese woodblock print", "a blueprint"])
        >>> words.shape
        torch.Size([3, 256])
        >>> bool(words[0] @ words[1] > words[0] @ words[2])
        True
    """

    model: Any

    def __init__(self, loaded: LoadedClip, *, name: str):
        super().__init__()
        self.model = loaded.model.float().requires_grad_(False)
        self.name = name
        self.embed_dim = loaded.embed_dim
        self.context_length = int(self.model.context_length)
        self._tokenizer = loaded.tokenizer
        self._preprocess_config = dict(loaded.preprocess_config)
        size = self._preprocess_config.pop("size")
        self._size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self._preprocess_config.pop("mode", None)  # always RGB
        self.image_size = max(self._size)
        self._warned: set[str] = set()
        self.train(False)

    @classmethod
    def from_pretrained(
        cls,
        name: str = "mini",
        device: str | torch.device = "cpu",
        cache_dir: str | Path | None = None,
        local_files_only: bool | None = None,
    ) -> Clip:
        """Load a model with all its weights, strictly, in fp32.

        Args:
            name: "mini" (in this package), "ARCH/TAG" as in open_clip
                (ViT-B-32/laion2b_s34b_b79k), "hf-hub:org/name", or a folder in open_clip's format.
            device: The device to load onto.
            cache_dir: Cache folder for Hub files; None for the default one.
            local_files_only: Never use the network; None looks at `HF_HUB_OFFLINE`. The local
                cache is always tried first.

        Raises:
            InputError: The name is empty or the device unknown.
            WeightsError: The model is unknown, or weights are missing, incomplete, unreachable or
                do not fit.
        """
        try:
            target = torch.device(device)
        except RuntimeError as error:
            raise InputError(f"unknown device {str(device)!r}; use cpu, cuda or mps") from error
        cache = None if cache_dir is None else str(cache_dir)
        with loading():
            return cls(load_clip(str(name), cache, local_files_only), name=str(name)).to(target)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Clip:
        """Stay in evaluation mode, also inside a module that trains."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode_text(self, prompts: str | Sequence[str]) -> Tensor:
        """Embed B prompts as unit rows (B, E), float32.

        A prompt longer than the context is truncated, with one `UserWarning` per prompt.

        Raises:
            InputError: There is no prompt, or one is empty.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not texts or any(not isinstance(text, str) or not text.strip() for text in texts):
            raise InputError("a prompt is empty; give some words")
        for text in texts:
            self._warn_if_cut(text)
        tokens = self._tokenizer(texts).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1], of any size, as unit rows (B, E), float32.

        Differentiable in the pixels.

        Raises:
            InputError: The input is not a float tensor (B, 3, H, W).
        """
        features = self.model.encode_image(self.preprocess(images))
        return F.normalize(features.float(), dim=-1)

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize, crop and normalize pictures (B, 3, H, W) in [0, 1] for the model.

        The same as open_clip's own transform, but differentiable.

        Raises:
            InputError: The input is not a float tensor (B, 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(
                "pictures must be a float tensor (B, 3, H, W) in [0, 1], not "
                f"{images.dtype} {tuple(images.shape)}"
            )
        return preprocess(images.to(self.device), self._size, **self._preprocess_config)

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens, start and end included; `context_length` of them are read."""
        ids, special = self._token_ids(prompt)
        return len(ids) + special

    def _token_ids(self, prompt: str) -> tuple[list[int], int]:
        """Return the prompt's own tokens and the number of special tokens added."""
        if hasattr(self._tokenizer, "encode"):  # open_clip's own
            return list(self._tokenizer.encode(prompt)), 2
        inner = self._tokenizer.tokenizer  # a transformers tokenizer
        ids = list(inner.encode(prompt, add_special_tokens=False))
        return ids, int(inner.num_special_tokens_to_add())

    def _warn_if_cut(self, prompt: str) -> None:
        ids, special = self._token_ids(prompt)
        used = self.context_length - special
        if len(ids) <= used or prompt in self._warned:
            return
        self._warned.add(prompt)
        inner = getattr(self._tokenizer, "tokenizer", self._tokenizer)
        warnings.warn(
            f"the prompt has {len(ids)} tokens and CLIP {self.name!r} reads {used}; "
            f"not read: {inner.decode(ids[used:]).strip()!r}",
            UserWarning,
            stacklevel=4,  # past no_grad, to the caller of encode_text
        )
