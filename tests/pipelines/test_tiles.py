"""Large pictures in tiles: the same look as the whole, and no seam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.pipelines import StylizePipeline
from clipmamba.pipelines.options import WORKING_SIDE, StylizeOptions
from clipmamba.pipelines.tiles import spans

WHOLE = 720 / WORKING_SIDE  # level of detail at which the network sees all pixels of `landscape`


@pytest.fixture(scope="module")
def landscape() -> torch.Tensor:
    """A picture (1, 3, 400, 720) that is dark on the left and bright on the right, with grain."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.1, 0.9, 720).expand(1, 3, 400, 720)
    return (ramp + 0.05 * torch.randn(1, 3, 400, 720, generator=generator)).clamp(0, 1)


@settings(deadline=None, max_examples=300)
@given(length=st.integers(1, 3000), tile=st.integers(8, 64).map(lambda number: 16 * number))
@example(length=193, tile=128)  # two overlaps in one tile
@example(length=208, tile=128)
@example(length=6732, tile=1024)
def test_spans_cover_every_pixel_once(length: int, tile: int) -> None:
    total = torch.zeros(length)
    for span in spans(length, tile):
        assert len(span.weights) <= tile
        assert span.start % 16 == 0
        assert (span.weights > 0).all()
        total[span.place] += span.weights
    assert total.allclose(torch.ones(length))


@pytest.mark.parametrize("tile", [128, 256, 400])
def test_tiles_give_the_picture_of_the_whole(
    tiny_pipeline: StylizePipeline, landscape: torch.Tensor, tile: int
) -> None:
    whole = tiny_pipeline(landscape, prompt="ukiyo-e", detail=WHOLE, tile=None).images
    tiled = tiny_pipeline(landscape, prompt="ukiyo-e", detail=WHOLE, tile=tile).images
    change = (whole - landscape).abs().mean()
    assert (tiled - whole).abs().mean() < 0.1 * change


def test_no_seam_where_tiles_meet(tiny_pipeline: StylizePipeline, landscape: torch.Tensor) -> None:
    tiled = tiny_pipeline(landscape, prompt="ukiyo-e", detail=WHOLE, tile=256).images
    steps = tiled.diff(dim=3).abs().mean(dim=(0, 1, 2))
    inner = [span.start for span in spans(720, 256)[1:]]
    overlap = 32
    meeting = torch.cat([steps[start - 1 : start + overlap + 1] for start in inner])
    assert meeting.max() < steps.median() * 1.15
    assert meeting.mean() > steps.mean() * 0.85  # nor is grain washed out where two tiles mix


def test_every_tile_sees_its_part_of_one_noise_field(
    tiny_pipeline: StylizePipeline, landscape: torch.Tensor
) -> None:
    # on an even picture nothing but the noise differs between the tiles
    even = torch.full_like(landscape, 0.5)
    whole = tiny_pipeline(even, prompt="ukiyo-e", detail=WHOLE, tile=None, seed=4).images
    tiled = tiny_pipeline(even, prompt="ukiyo-e", detail=WHOLE, tile=256, seed=4).images
    grain = [picture - picture.mean(dim=(2, 3), keepdim=True) for picture in (whole, tiled)]
    alike = torch.cosine_similarity(grain[0].flatten(), grain[1].flatten(), dim=0)
    assert alike > 0.95


def test_large_pictures_are_tiled_unasked() -> None:
    auto = StylizeOptions()
    assert auto.tile_side(1600, 1200) is None
    assert auto.tile_side(9000, 6700) == 1024
    assert StylizeOptions(tile=None).tile_side(9000, 6700) is None
    assert StylizeOptions(tile=500).tile_side(1600, 1200) == 512
    assert StylizeOptions(tile=500).tile_side(400, 300) is None
    enlarged = StylizeOptions(detail=4)
    assert enlarged.tile_side(2048, 1536, enlarged.working_scale(640, 480)) == 1024
    assert enlarged.tile_side(1600, 1200, scale=1.0) is None


@pytest.mark.parametrize("tile", [0, 64, -1, 300.5, "big", True])
def test_a_bad_tile_is_refused(tile: object) -> None:
    with pytest.raises(InputError, match="tile must be"):
        StylizeOptions(tile=tile)


def test_tiles_are_the_same_bytes_again(tiny_pipeline: StylizePipeline) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (150, 300, 3), np.uint8)
    picture = Image.fromarray(pixels)
    first, second = (
        tiny_pipeline(picture, prompt="mosaic", tile=128, seed=1).images[0] for _ in range(2)
    )
    assert first.size == picture.size
    assert first.tobytes() == second.tobytes()


def test_progress_is_told_tile_by_tile(
    tiny_pipeline: StylizePipeline, landscape: torch.Tensor
) -> None:
    told: list[float] = []
    tiny_pipeline([landscape, landscape], prompt="mosaic", detail=WHOLE, tile=256,
                  callback=lambda done, total: told.append(done / total))  # fmt: skip
    assert told == sorted(told)
    tiles = len(spans(400, 256)) * len(spans(720, 256))
    rounds = tiny_pipeline.stylizer.norms + 1  # those that survey, and one that draws
    assert len(told) == 2 * (rounds * tiles + 1)
    assert told[-1] == 1
    assert 0 < told[0] < 0.2
