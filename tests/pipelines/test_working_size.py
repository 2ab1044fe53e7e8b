"""The size at which the network sees a photo, and its strokes."""

from __future__ import annotations

import pytest
import torch

from clipmamba.pipelines import StylizePipeline


@pytest.fixture
def pipe(tiny_pipeline: StylizePipeline) -> StylizePipeline:
    return tiny_pipeline


@pytest.fixture(scope="module")
def landscape() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.1, 0.9, 520).expand(1, 3, 300, 520)
    return (ramp + 0.05 * torch.randn(1, 3, 300, 520, generator=generator)).clamp(0, 1)


def test_its_tiles_give_the_picture_of_the_whole(pipe: StylizePipeline, landscape: torch.Tensor):
    whole = pipe(landscape, prompt="ukiyo-e", tile=None).images
    tiled = pipe(landscape, prompt="ukiyo-e", tile=256).images
    change = (whole - landscape).abs().mean()
    assert (tiled - whole).abs().mean() < 0.04 * change


def test_strokes_keep_their_proportion_to_the_picture(pipe: StylizePipeline):
    sizes = [pipe.network_for(side).stroke for side in (64, 512, 1024, 9000)]
    assert sizes == [0.5, 1, 2, 5]


@pytest.mark.parametrize(
    ("size", "options", "side", "stroke"),
    [
        ((96, 64), {}, 256, 0.5),
        ((96, 64), {"stroke": 0.5}, 512, 0.5),
        ((400, 300), {}, 400, 400 / 512),
        ((400, 300), {"stroke": 2}, 200, 400 / 512),
        ((700, 300), {}, 512, 1),
        ((2000, 40), {"stroke": 1.6}, 320, 1),
        ((40, 2000), {"stroke": 0.5}, 1024, 1),
        ((40, 2000), {"detail": 0.5}, 256, 1),
        ((300, 200), {"detail": 0.25, "stroke": 0.5}, 256, 1),
    ],
)
def test_it_works_at_a_size_of_its_own_with_strokes_in_proportion(
    pipe: StylizePipeline, size, options, side, stroke
):
    seen = []
    hook = pipe.stylizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    photo = torch.rand(1, 3, *size)
    try:
        made = pipe(photo, prompt="ukiyo-e", **options).images
    finally:
        hook.remove()
    [(shown, _, _, _, sizes, _)] = seen
    margin = pipe.stylizer.margin
    short = max(1, round(side * min(size) / max(size)))
    expected = {side + 2 * margin, short + 2 * min(margin, short)}
    assert {*shown.shape[2:]} == expected
    assert sizes.tolist() == pytest.approx([stroke])
    assert made.shape == photo.shape
    assert not torch.equal(made, photo)
