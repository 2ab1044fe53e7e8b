from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def draw(generator: torch.Generator) -> Callable[..., Tensor]:
    """draw(*shape): float64 normal numbers, the same in every run."""

    def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return draw


@pytest.fixture
def pictures(generator: torch.Generator) -> Callable[..., Tensor]:
    """pictures(B, H, W): float64 noise in [0, 1]."""

    def pictures(batch: int, height: int, width: int) -> Tensor:
        return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)

    return pictures


class LinearEncoder(torch.nn.Module):
    """The smallest encoder there is: a linear map of an 8×8 thumbnail, unit rows."""

    def __init__(self, embed_dim: int = 6) -> None:
        super().__init__()
        weight = torch.randn(192, embed_dim, generator=torch.Generator().manual_seed(1))
        self.register_buffer("weight", weight.double())
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        thumbnails = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return normalize(thumbnails @ self.weight.to(thumbnails), dim=-1)


@pytest.fixture
def encoder() -> LinearEncoder:
    return LinearEncoder()
