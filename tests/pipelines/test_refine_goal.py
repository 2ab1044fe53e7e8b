"""What holds a refined picture together: the terms beside CLIP's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.pipelines import RefineOptions
from clipmamba.pipelines.refine.goal import Goal

SIDE = 64


@pytest.fixture(scope="module")
def start() -> Tensor:
    """A print: a bar with contours on even ground."""
    picture = torch.full((1, 3, SIDE, SIDE), 0.8)
    picture[..., 16:48, 24:40] = 0.3
    return picture


def cost(clip, photo: Tensor, start: Tensor, picture: Tensor, **weights: float) -> float:
    """What the terms beside CLIP's add to a picture's loss."""
    ends = clip.encode_text(["mosaic", "photo"]).split(1)
    held = dataclasses.replace(RefineOptions(patch=0), **weights)
    free = dataclasses.replace(held, edges=0, texture=0)
    losses = [
        Goal(settings, clip, photo, start, *ends, preserve_color=False)(picture, torch.Generator())
        for settings in (held, free)
    ]
    return (losses[0] - losses[1]).item()


def test_the_start_and_what_is_better_cost_nothing(tiny_pipeline, start):
    soft = avg_pool2d(start, 5, 1, 2, count_include_pad=False)
    assert cost(tiny_pipeline.clip, start, soft, soft) == pytest.approx(0, abs=1e-5)
    # edges like the photo's where the start's were soft
    assert cost(tiny_pipeline.clip, start, soft, start, texture=0) == pytest.approx(0, abs=1e-5)


def test_flecks_faded_contours_and_lost_edges_cost(tiny_pipeline, start):
    generator = torch.Generator().manual_seed(0)
    flecked = (start + 0.1 * torch.randn(start.shape, generator=generator)).clamp(0, 1)
    faded = 0.6 + 0.3 * (start - 0.6)
    moved = start.roll(5, 3)
    for picture, weight in ((flecked, "edges"), (faded, "edges"), (moved, "texture")):
        assert cost(tiny_pipeline.clip, start, start, picture, **{weight: 0}) > 0.05


def test_faint_flecks_may_fade(tiny_pipeline, start):
    generator = torch.Generator().manual_seed(0)
    flecked = (start + 0.02 * torch.randn(start.shape, generator=generator)).clamp(0, 1)
    kept = cost(tiny_pipeline.clip, start, flecked, start)
    assert kept == pytest.approx(0, abs=1e-3)
