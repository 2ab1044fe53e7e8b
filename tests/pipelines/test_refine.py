"""What a refined picture promises, with networks of both designs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba.errors import InputError, WeightsError
from clipmamba.pipelines import RefineOptions, StylizeOptions, StylizePipeline, stylize
from clipmamba.styles import StyleRequest

# Strong steps: these networks and their CLIP are random.
QUICK = RefineOptions(steps=6, crops=2, side=48, rate=0.3)


@pytest.fixture
def pipe(tiny_pipeline) -> StylizePipeline:
    return tiny_pipeline


@pytest.fixture
def tensor(photo: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]


def test_the_loss_falls_and_the_picture_changes(pipe, photo):
    done = pipe.refine(photo, "mosaic", QUICK)
    [refinement] = done.refinements
    assert refinement.kept
    assert refinement.after < refinement.before - 0.01
    assert refinement.steps == QUICK.steps
    start = pipe(photo, prompt="mosaic").images[0]
    assert done.images[0].size == photo.size
    assert done.images[0].tobytes() != start.tobytes()
    more = pipe.refine(photo, "mosaic", dataclasses.replace(QUICK, steps=30)).refinements[0]
    assert more.after < refinement.after


def test_the_network_itself_is_left_alone_also_meanwhile(pipe, photo):
    before = {name: value.clone() for name, value in pipe.stylizer.state_dict().items()}
    plain = pipe(photo, prompt="mosaic").images[0].tobytes()
    meanwhile = []

    def look(done: float, total: int) -> None:
        if len(meanwhile) < 2 * QUICK.steps:
            meanwhile.append(pipe(photo, prompt="mosaic").images[0].tobytes() == plain)

    learning = StylizePipeline(copy.deepcopy(pipe.stylizer), pipe.clip, pipe.prior)
    learning.stylizer.requires_grad_(True)
    for used in (pipe, learning):
        used.refine(photo, "mosaic", QUICK, callback=look)
        after = used.stylizer.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not any(p.grad is not None for p in used.stylizer.parameters())
    assert len(meanwhile) == 2 * QUICK.steps
    assert all(meanwhile)
    assert not any(p.requires_grad for p in pipe.stylizer.parameters())
    assert not any(p.grad is not None for p in pipe.clip.parameters())


def test_the_same_seed_gives_the_same_bytes(pipe, photo):
    def run(seed):
        return pipe(photo, prompt="mosaic", refine=QUICK, seed=seed).images[0].tobytes()

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_no_steps_change_nothing(pipe, photo):
    plain = pipe(photo, prompt="mosaic")
    done = pipe(photo, prompt="mosaic", refine=0)
    assert done.images[0].tobytes() == plain.images[0].tobytes()
    assert done.refinements == plain.refinements == []
    assert pipe.refine(photo, "mosaic", 0).images[0].tobytes() == plain.images[0].tobytes()


def test_strength_zero_is_the_photo_without_any_work(pipe, photo):
    done = pipe(photo, prompt="mosaic", strength=0, refine=QUICK)
    assert done.images[0].tobytes() == photo.tobytes()
    assert done.refinements == []


def test_strength_is_a_part_of_the_refined_change(pipe, tensor):
    full, half = (
        pipe(tensor, prompt="mosaic", strength=strength, refine=QUICK).images
        for strength in (1, 0.5)
    )
    assert (half - torch.lerp(tensor, full, 0.5)).abs().max() < 1e-5


def test_outside_its_mask_the_photo_stays(pipe, photo):
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, 20, 32))
    done = pipe(photo, prompt="mosaic", mask=mask, refine=QUICK).images[0]
    plain = pipe(photo, prompt="mosaic", mask=mask).images[0]
    assert done.crop((20, 0, 48, 32)).tobytes() == photo.crop((20, 0, 48, 32)).tobytes()
    assert done.tobytes() != plain.tobytes()


def test_every_style_of_a_picture_is_refined(pipe, photo):
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, 20, 32))
    done = pipe(photo, prompt="mosaic", regions=[(mask, "woodcut")], refine=QUICK)
    assert len(done.refinements) == 2
    assert len(pipe(photo, prompt="mosaic", variants=3, refine=QUICK).refinements) == 3


def test_colors_are_kept_where_they_shall_be(pipe, tensor):
    done = pipe(tensor, prompt="mosaic", preserve_color=True, refine=QUICK).images
    inside = ((done > 0) & (done < 1)).all(1)
    change = (done - tensor).movedim(1, -1)[inside]
    assert (change - change.mean(-1, keepdim=True)).abs().max() < 1e-5  # brightness alone
    assert change.abs().max() > 0.01


def test_it_stops_where_nothing_is_gained_and_keeps_the_start(pipe, photo):
    still = RefineOptions(steps=50, crops=2, side=48, rate=0, patience=2)
    done = pipe.refine(photo, "mosaic", dataclasses.replace(still, min_delta=10))
    [refinement] = done.refinements
    assert refinement.steps == 3
    assert not refinement.kept
    assert done.images[0].tobytes() == pipe(photo, prompt="mosaic").images[0].tobytes()


def test_progress_rises_to_its_end(pipe, photo):
    told = []
    pipe.refine([photo, photo], "mosaic", QUICK, callback=lambda *now: told.append(now))
    done = [part for part, _ in told]
    assert done == sorted(done)
    assert len(done) >= 2 * QUICK.steps
    assert told[-1] == (2, 2)


@pytest.mark.parametrize("tile", [None, 128])
def test_a_large_photo_is_optimized_small_and_painted_at_its_size(pipe, tile):
    ramp = torch.linspace(0.1, 0.9, 300).expand(1, 3, 200, 300)
    photo = (ramp + 0.1 * torch.rand(1, 3, 200, 300)).clamp(0, 1)
    seen = []
    settings = dataclasses.replace(QUICK, side=96)
    start = pipe(photo, prompt="mosaic", tile=tile).images
    hook = pipe.stylizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        done = pipe(photo, prompt="mosaic", tile=tile, refine=settings)
    finally:
        hook.remove()
    assert done.refinements[0].kept
    assert done.images.shape == photo.shape
    assert (done.images - start).abs().mean() > 1e-3
    least = 256 + 2 * pipe.stylizer.margin  # no network works at less
    small = [shown for shown in seen if max(shown.shape[2:]) <= least]
    assert len(small) >= settings.steps + 2
    assert len(seen) - len(small) <= (1 if tile is None else 8)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_it_works_whatever_the_callers_context(pipe, tensor, context):
    expected = pipe(tensor, prompt="mosaic", refine=QUICK).images
    with context():
        done = pipe(tensor, prompt="mosaic", refine=QUICK).images
        inside = pipe(tensor.clone(), style_image=tensor.flip(3).clone(), refine=QUICK)
    assert torch.equal(done, expected)
    assert inside.refinements[0].kept


def test_gradients_still_reach_the_pixels(pipe, tensor):
    photo = tensor.clone().requires_grad_()
    pipe(photo, prompt="mosaic", refine=QUICK).images.mean().backward()
    assert photo.grad is not None
    assert (photo.grad != 0).float().mean() > 0.5


def test_a_batch_gives_what_each_picture_gives_alone(pipe, tensor):
    batch = torch.cat([tensor, tensor.flip(3)])
    done = pipe(batch, prompt="mosaic", refine=QUICK)
    assert len(done.refinements) == 2
    for row, image in enumerate(batch):
        alone = pipe(image, prompt="mosaic", refine=QUICK).images[0]
        assert torch.equal(done.images[row], alone)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 7)])
def test_pictures_too_small_for_edges(pipe, size):
    photo = torch.rand(1, 3, *size)
    assert pipe(photo, prompt="mosaic", refine=QUICK).images.shape == photo.shape


def test_another_clip_can_be_pleased(pipe, photo, other_clip_folder):
    settings = dataclasses.replace(QUICK, clip=str(other_clip_folder))
    done = pipe.refine(photo, "mosaic", settings)
    own = pipe.refine(photo, "mosaic", QUICK)
    assert done.refinements[0].kept
    assert done.refinements[0].before != own.refinements[0].before
    assert done.images[0].tobytes() != own.images[0].tobytes()
    shown = pipe(photo, style_image=photo.rotate(90), avoid="mosaic", refine=settings)
    assert shown.refinements[0].kept
    mixed = 0.5 * pipe.prepare(StyleRequest.parse("mosaic"))
    mixed = mixed + 0.5 * pipe.prepare(StyleRequest.parse("woodcut"))
    assert pipe(photo, style=mixed, refine=QUICK).refinements[0].kept
    with pytest.raises(InputError, match="no words for another CLIP"):
        pipe(photo, style=mixed, refine=settings)
    with pytest.raises(WeightsError):
        pipe(photo, prompt="mosaic", refine=dataclasses.replace(QUICK, clip="./nowhere"))


def test_words_styles_and_prepared_styles_are_the_same(pipe, photo):
    words = pipe.refine(photo, "mosaic", QUICK, StylizeOptions(seed=2)).images[0]
    prepared = pipe.prepare(StyleRequest.parse("mosaic"), [2])
    assert pipe.refine(photo, prepared, QUICK).images[0].tobytes() == words.tobytes()
    style = prepared.layers[0].styles[2]
    again = pipe.refine(photo, style, QUICK, StylizeOptions(seed=2)).images[0]
    assert again.tobytes() == words.tobytes()


def test_several_styles_are_mixed(pipe, photo):
    mixed = pipe(photo, prompt=["mosaic:0.7", "woodcut:0.3"], refine=QUICK).images[0]
    again = pipe.refine(photo, ["mosaic:0.7", "woodcut:0.3"], QUICK).images[0]
    assert again.tobytes() == mixed.tobytes()
    mosaic = pipe.prepare(StyleRequest.parse("mosaic")).layers[0].styles[None]
    mixed = pipe(photo, prompt="woodcut", style=mosaic, refine=QUICK).images[0]
    again = pipe.refine(photo, ["woodcut", mosaic], QUICK).images[0]
    assert again.tobytes() == mixed.tobytes()


def test_the_functions_keyword(tiny_pipeline_folder: Path, tiny_pipeline, photo):
    done = stylize(photo, "mosaic", refine=QUICK, model=tiny_pipeline_folder, device="cpu")
    expected = tiny_pipeline.refine(photo, "mosaic", QUICK).images[0]
    assert done.tobytes() == expected.tobytes()


@pytest.mark.parametrize("steps", [-1, 1.5, True, "3", 10_001, None])
def test_a_wrong_number_of_steps_is_named_before_the_weights(photo, steps):
    with pytest.raises(InputError, match="refine must be a whole number from 0"):
        stylize(photo, "mosaic", refine=steps, model="no such folder")


@pytest.mark.parametrize(
    "change",
    [{"side": 8}, {"crops": 0}, {"crop_fraction": 0}, {"crop_fraction": 1.5}, {"threshold": -1},
     {"rate": float("nan")}, {"edges": -1}, {"patience": 0}, {"clip": " "}],
)  # fmt: skip
def test_a_wrong_setting_is_named(change):
    [name] = change
    with pytest.raises(InputError, match=f"refine: .*{name}" if name != "clip" else "CLIP"):
        RefineOptions(**change)


def test_a_network_without_gradients_is_refused(pipe, photo):
    @torch.no_grad()
    def frozen(photo, style, noise, whole=None):
        return 1 - photo

    with pytest.raises(InputError, match="refine needs a network with gradients"):
        pipe.with_network(lambda side, stroke: frozen).refine(photo, "mosaic", QUICK)
