"""Helpers for all losses: float32 under autocast, unit rows, reduction over the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipmamba.errors import InputError

Reduction: TypeAlias = Literal["mean", "sum", "none"]
"""How to reduce per-sample losses (B,)."""

Features: TypeAlias = Tensor | Sequence[Tensor]
"""One feature map (B, C, H, W), or one per layer."""

DIRECTION_EPS = 1e-2
"""Length below which a direction between unit embeddings does not count fully."""

_P = ParamSpec("_P")


def full_precision(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Make a loss compute in float32 (float64 stays), also under bf16 or fp16 autocast.

    Differences of nearly equal embeddings, variances and log-sums lose most of their digits in
    bfloat16, and a loss is cheap compared with the network.
    """

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device_type = _device_type((*args, *kwargs.values()))
        wide_args = [_widen(value) for value in args]
        wide_kwargs = {name: _widen(value) for name, value in kwargs.items()}
        with torch.autocast(device_type, enabled=False):
            return function(*wide_args, **wide_kwargs)  # type: ignore[arg-type]

    return wrapper


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if isinstance(value, list | tuple):
        return [_widen(item) for item in value]
    return value


def _device_type(values: Iterable[Any]) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            return value[0].device.type
    return "cpu"


@full_precision
def embedding_direction(embedding: Tensor, origin: Tensor) -> Tensor:
    """Compute ``embedding - origin`` in float32: nearly equal bfloat16 rows would cancel."""
    return embedding - origin


def unit_directions(directions: Tensor, eps: float = DIRECTION_EPS) -> Tensor:
    """Scale rows to length 1, but those shorter than ``eps`` by 1 / eps only.

    A direction near zero, from an output that still equals its photo, would otherwise become an
    arbitrary unit vector with an unbounded gradient; this bounds the gradient by 1 / eps.

    Args:
        directions: (..., E).
        eps: Shortest length that is scaled to 1.

    Returns:
        (..., E), rows of length at most 1.
    """
    return normalize(directions, dim=-1, eps=eps)


def reduce_samples(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-sample losses (B,) to their mean or sum, or return them unchanged.

    Raises:
        InputError: ``reduction`` is not "mean", "sum" or "none".
    """
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise InputError(f"reduction must be one of {get_args(Reduction)}, not {reduction!r}")


def paired_features(features: Features, targets: Features) -> list[tuple[Tensor, Tensor]]:
    """Pair the feature maps of output and target, layer by layer.

    Raises:
        InputError: The numbers of layers, batch sizes or channels differ, or a map is not 4-D.
    """
    feature_list = [features] if isinstance(features, Tensor) else list(features)
    target_list = [targets] if isinstance(targets, Tensor) else list(targets)
    if not feature_list or len(feature_list) != len(target_list):
        raise InputError(
            "features and target features must have the same number of layers (at least one), "
            f"got {len(feature_list)} and {len(target_list)}"
        )
    pairs = list(zip(feature_list, target_list, strict=True))
    for layer, (feature, target) in enumerate(pairs):
        if feature.ndim != 4 or target.ndim != 4 or feature.shape[:2] != target.shape[:2]:
            raise InputError(
                f"layer {layer}: feature maps must be (B, C, H, W) with the same B and C, "
                f"got {tuple(feature.shape)} and {tuple(target.shape)}"
            )
    return pairs


def require_same_places(feature: Tensor, target: Tensor) -> None:
    """Raise InputError unless both tensors have the same shape."""
    if feature.shape != target.shape:
        raise InputError(
            "output and target are compared position by position and must have the same shape, "
            f"got {tuple(feature.shape)} and {tuple(target.shape)}"
        )


def require_images(images: Tensor) -> None:
    """Raise InputError unless the tensor is a batch of RGB pictures (B, 3, H, W)."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"pictures must be (B, 3, H, W), got {tuple(images.shape)}")
