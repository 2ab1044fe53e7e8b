"""The text-to-style prior: from text embeddings to image embeddings.

Text and image embeddings lie in two separate cones of CLIP's space. The prior averages two
estimates across the gap: a linear map, fitted in closed form on captioned pictures, which
generalizes to unseen texts; and a soft lookup in the texts that several pictures share. The main
directions of the residual give seeded variants of a style.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.errors import InputError, WeightsError
from clipmamba.files import write_json
from clipmamba.weights import read_tensors, write_tensors

if TYPE_CHECKING:
    from clipmamba.clip import Clip

DEFAULT_FOLDER = Path(__file__).parents[1] / "weights" / "prior"
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "prior.safetensors"
TEMPERATURE = 0.07  # of the lookup's softmax over cosine similarities
REPEATS = 2  # pictures that must share a text to make it known
_CONFIG_KEYS = {"embed_dim", "rank", "known", "clip"}
_TENSORS = ("weight", "bias", "components", "scale", "texts", "pictures", "counts")


class StylePrior(torch.nn.Module):
    """Maps text embeddings to style embeddings.

    A unit text t becomes `normalize((W t + b + lookup(t)) / 2 + sum_k scale_k eps_k component_k)`.

    `lookup(t)` is the mean of `pictures`, weighted by `sqrt(counts) exp(texts t / TEMPERATURE)`.

    Args:
        weight: W, (E, E).
        bias: b, (E,).
        components: Unit rows (K, E), the directions in which pictures of one text differ most.
        scale: Standard deviations along them, (K,), at least 0.
        clip_name: The CLIP model it was fitted on.
        texts: Unit embeddings of the known texts, (T, E); without any, W t + b is used alone.
        pictures: Mean embedding of the pictures of each known text, (T, E).
        counts: Number of these pictures, (T,), above 0.

    Raises:
        WeightsError: The shapes are inconsistent.
    """

    weight: Tensor
    bias: Tensor
    components: Tensor
    scale: Tensor
    texts: Tensor
    pictures: Tensor
    counts: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        components: Tensor,
        scale: Tensor,
        clip_name: str = "",
        texts: Tensor | None = None,
        pictures: Tensor | None = None,
        counts: Tensor | None = None,
    ):
        super().__init__()
        width, rank = bias.numel(), scale.numel()
        texts = bias.new_empty(0, width) if texts is None else texts
        pictures = bias.new_empty(0, width) if pictures is None else pictures
        counts = bias.new_empty(0) if counts is None else counts
        known = counts.numel()
        tensors = (weight, bias, components, scale, texts, pictures, counts)
        shapes = ((width, width), (width,), (rank, width), (rank,))
        expected = (*shapes, (known, width), (known, width), (known,))
        found = tuple(tuple(t.shape) for t in tensors)
        if found != expected:
            raise WeightsError(f"a style prior needs shapes {expected}, not {found}")
        self.clip_name = clip_name
        for name, value in zip(_TENSORS, tensors, strict=True):
            self.register_buffer(name, value.detach().float().clone())

    @property
    def embed_dim(self) -> int:
        """Width E of the embeddings."""
        return self.bias.numel()

    @property
    def rank(self) -> int:
        """Number K of residual directions."""
        return self.scale.numel()

    @property
    def known(self) -> int:
        """Number T of known texts."""
        return self.counts.numel()

    def forward(self, text_embedding: Tensor, seed: int | None = None) -> Tensor:
        """Map text embeddings to style embeddings.

        Args:
            text_embedding: Unit rows (B, E).
            seed: None for the mean, a number for a variant. A seed moves every row the same way,
                so a row does not depend on its batch.

        Returns:
            Unit rows (B, E).

        Raises:
            InputError: The shape is not (B, E).
        """
        if text_embedding.ndim != 2 or text_embedding.shape[1] != self.embed_dim:
            raise InputError(
                f"the prior takes text embeddings (B, {self.embed_dim}), not "
                f"{tuple(text_embedding.shape)}"
            )
        point = torch.cat([self._mean(row[None], _in_order) for row in text_embedding.float()])
        if seed is not None:
            # Drawn on the CPU: the same variant on every device.
            generator = torch.Generator("cpu").manual_seed(int(seed))
            noise = torch.randn(
                1, self.rank, generator=generator, dtype=torch.float32, device="cpu"
            )
            point = point + _in_order(noise.to(point.device) * self.scale, self.components)
        return F.normalize(point, dim=-1)

    def familiarity(self, text_embedding: Tensor) -> float:
        """Cosine similarity of a text embedding (1, E) to the nearest known text; 0 without any."""
        return float((text_embedding.float() @ self.texts.T).max()) if self.known else 0.0

    def _mean(
        self, text: Tensor, multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul
    ) -> Tensor:
        """Compute the mean image embedding for texts (B, E), not normalized."""
        point = multiply(text, self.weight.T) + self.bias
        if not self.known:
            return point
        near = multiply(text, self.texts.T) / TEMPERATURE + self.counts.log() / 2
        return (point + multiply(near.softmax(dim=1), self.pictures)) / 2

    @classmethod
    def fit(
        cls,
        text_embeddings: Tensor,
        image_embeddings: Tensor,
        ridge: float = 1e-3,
        rank: int = 16,
        clip_name: str = "",
        most_known: int = 2000,
    ) -> StylePrior:
        """Fit the linear map and the lookup table, then the main directions of the residual.

        Args:
            text_embeddings: Embeddings of the captions, (N, E). Identical rows are one text, which
                is known if at least `REPEATS` pictures share it.
            image_embeddings: Embeddings of their pictures, (N, E).
            ridge: Weight of the squared norm of W against the mean squared error, above 0. The
                bias is not penalized.
            rank: Number of residual directions to keep, 0 to E.
            clip_name: The CLIP model that the embeddings come from.
            most_known: Largest number of known texts; those with the most pictures are kept.

        Raises:
            InputError: The shapes differ, there are fewer than 2 rows, or `rank` or `ridge` is out
                of range.
        """
        if text_embeddings.shape != image_embeddings.shape or text_embeddings.ndim != 2:
            raise InputError(
                "text and image embeddings must both be (N, E), not "
                f"{tuple(text_embeddings.shape)} and {tuple(image_embeddings.shape)}"
            )
        count, width = text_embeddings.shape
        if count < 2 or not 0 <= rank <= width or not ridge > 0:
            raise InputError(
                f"a fit needs at least 2 pairs, a rank from 0 to {width} and a ridge above 0"
            )
        texts, pictures = text_embeddings.double(), image_embeddings.double()
        text_mean, picture_mean = texts.mean(0), pictures.mean(0)
        t, y = texts - text_mean, pictures - picture_mean
        gram = t.T @ t / count + ridge * torch.eye(width, dtype=t.dtype, device=t.device)
        weight = torch.linalg.solve(gram, t.T @ y / count).T
        bias = picture_mean - weight @ text_mean
        rows, text, counts = torch.unique(texts, return_inverse=True, return_counts=True, dim=0)
        means = torch.zeros_like(rows).index_add_(0, text, pictures) / counts[:, None]
        often = counts.argsort(descending=True, stable=True)[:most_known]
        known = often[counts[often] >= REPEATS].sort().values
        table = (rows[known], means[known], counts[known])
        mean = cls(weight, bias, y[:0], y.new_empty(0), clip_name, *table)
        # In parts, since a lookup of all rows at once would need N x T numbers.
        parts = [mean._mean(rows) for rows in torch.split(text_embeddings.float(), 4096)]
        residual = pictures - torch.cat(parts).double()
        residual = residual - residual.mean(0)
        variance, vectors = torch.linalg.eigh(residual.T @ residual / count)  # ascending
        order = torch.arange(width - 1, width - 1 - rank, -1, device=t.device)
        components = vectors[:, order].T
        # An eigenvector's sign is arbitrary; fix it, so that a refit gives the same variants.
        peak = components.gather(1, components.abs().argmax(1, keepdim=True))
        scale = variance[order].clamp_min(0).sqrt()
        return cls(weight, bias, components * peak.sign(), scale, clip_name, *table)

    def check_clip(self, clip: Clip) -> None:
        """Refuse a CLIP model that this prior was not fitted on.

        Raises:
            WeightsError: The name or the width differs.
        """
        if clip.embed_dim != self.embed_dim or (self.clip_name and clip.name != self.clip_name):
            raise WeightsError(
                f"the style prior belongs to CLIP {self.clip_name!r} ({self.embed_dim}), not to "
                f"{clip.name!r} ({clip.embed_dim}); fit one for it or leave the prior out"
            )

    def save(self, folder: str | Path) -> None:
        """Write `prior.safetensors` and `config.json`."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        tensors = {name: value for name, value in self.named_buffers() if name in _TENSORS}
        write_tensors(target / WEIGHTS_NAME, tensors, {"format": "pt"})
        config = {name: getattr(self, name) for name in ("embed_dim", "rank", "known")}
        config["clip"] = self.clip_name
        write_json(target / CONFIG_NAME, config)

    @classmethod
    def load(cls, folder: str | Path | None = None, clip: Clip | None = None) -> StylePrior:
        """Load a prior strictly from a folder written by `save`.

        Args:
            folder: Folder with `prior.safetensors` and `config.json`; None for the shipped prior.
            clip: If given, the prior must belong to this model, and is moved to its device.

        Raises:
            WeightsError: A file is missing or damaged, or the prior belongs to another CLIP model.
        """
        source = DEFAULT_FOLDER if folder is None else Path(folder)
        config = _read_config(source / CONFIG_NAME)
        tensors, _ = read_tensors(source / WEIGHTS_NAME, {*_TENSORS})
        prior = cls(**tensors, clip_name=config["clip"])
        for name in ("embed_dim", "rank", "known"):
            if getattr(prior, name) != config[name]:
                raise WeightsError(
                    f"{source}: {CONFIG_NAME} says {name} {config[name]}, the tensors have "
                    f"{getattr(prior, name)}"
                )
        if clip is not None:
            prior.check_clip(clip)
            prior = prior.to(clip.device)
        return prior


def _in_order(row: Tensor, matrix: Tensor) -> Tensor:
    """Multiply (1, K) by (K, N), summing in a fixed order whatever the number of threads.

    BLAS libraries split a sum among threads, so its last bit depends on how many there are.
    """
    terms = row.T * matrix
    while len(terms) > 1:
        half = len(terms) // 2
        terms = torch.cat([terms[:half] + terms[half : 2 * half], terms[2 * half :]])
    return terms if len(terms) else matrix.new_zeros(1, matrix.shape[1])


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"no file {path}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        keys = set(config)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or keys != _CONFIG_KEYS:
        raise WeightsError(f"{path} must hold exactly {', '.join(sorted(_CONFIG_KEYS))}")
    return config
