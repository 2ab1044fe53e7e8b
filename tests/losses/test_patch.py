from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from clipmamba.errors import InputError
from clipmamba.losses import (
    PatchDirectionalLoss,
    directional_loss,
    patch_directional_loss,
    random_perspective_crops,
)
from clipmamba.losses.patch import _quad_coordinates


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinate_picture(height: int, width: int) -> torch.Tensor:
    """A picture whose first two channels say where a pixel is."""
    rows = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float64).expand(height, width)
    return torch.stack([rows, columns, torch.ones_like(rows)])[None]


@pytest.mark.parametrize(("height", "width"), [(24, 40), (31, 17)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_straight_crop_is_slice_and_resize(pictures, height, width, scale):
    images = pictures(2, height, width)
    side = round(0.5 * min(height, width))
    size = side * scale
    crops = random_perspective_crops(images, 3, 0.5, 0.0, size, seeded())
    # the same draw again on a picture that tells where each crop came from
    where = coordinate_picture(height, width).expand(2, -1, -1, -1)
    places = random_perspective_crops(where, 3, 0.5, 0.0, side, seeded())
    for index, (crop, place) in enumerate(zip(crops, places, strict=True)):
        top, left = round(place[0, 0, 0].item()), round(place[1, 0, 0].item())
        cut = images[index // 3, :, top : top + side, left : left + side]
        expected = interpolate(cut[None], size, mode="bilinear", align_corners=False)[0]
        assert torch.allclose(crop, expected, atol=1e-9)


def test_small_crops_are_averaged_not_aliased(pictures):
    images = pictures(1, 32, 32)
    crop = random_perspective_crops(images, 1, 1.0, 0.0, 8, seeded())
    assert torch.allclose(crop, interpolate(images, 8, mode="area"), atol=1e-9)


def test_perspective_takes_corners_to_corners_and_lines_to_lines():
    quad = torch.tensor([[[0.1, 0.2], [0.9, 0.05], [0.8, 0.95], [0.25, 0.75]]]).double()
    size = 2000  # so that pixel centers lie close to the corners
    x, y = (coordinate[0] for coordinate in _quad_coordinates(quad, size))
    rows, columns = [0, 0, -1, -1], [0, -1, -1, 0]
    corners = torch.stack([x[rows, columns], y[rows, columns]], dim=-1)
    assert torch.allclose(corners, quad[0], atol=1e-3)
    for line_x, line_y in ((x[700], y[700]), (x[:, 700], y[:, 700])):
        along = torch.stack([line_x - line_x[0], line_y - line_y[0]])
        bend = along[0] * along[1, -1] - along[1] * along[0, -1]
        assert bend.abs().max() < 1e-12


def test_crops_stay_inside_the_picture():
    # outside a picture grid_sample reads zeros: white pictures must stay pure white
    white = torch.ones(2, 3, 20, 33)
    crops = random_perspective_crops(white, 64, 0.4, 0.66, 16, seeded())
    assert torch.allclose(crops, torch.ones_like(crops), atol=1e-5)


def test_crops_reach_every_part_of_the_picture():
    where = coordinate_picture(24, 40)
    crops = random_perspective_crops(where, 256, 0.25, 0.0, None, seeded())
    assert crops.shape == (256, 3, 6, 6)
    tops, lefts = crops[:, 0, 0, 0].round(), crops[:, 1, 0, 0].round()
    assert (tops.min(), tops.max()) == (0, 18)
    assert (lefts.min(), lefts.max()) == (0, 34)


def test_perspective_zooms_only_into_its_own_crop():
    where = coordinate_picture(32, 32)
    straight = random_perspective_crops(where, 16, 0.5, 0.0, 32, seeded())[:, :2].flatten(2)
    tilted = random_perspective_crops(where, 16, 0.5, 0.5, 32, seeded())[:, :2].flatten(2)
    assert (tilted.amin(2) >= straight.amin(2) - 1e-9).all()
    assert (tilted.amax(2) <= straight.amax(2) + 1e-9).all()
    assert (tilted - straight).abs().amax() > 1
    rows = tilted[:, 0].view(-1, 32, 32)
    assert (rows.diff(dim=1) > 0).all()  # a corner moved outwards would repeat the crop's edge


def test_same_seed_same_crops(pictures):
    images = pictures(2, 24, 24)
    first = random_perspective_crops(images, 4, generator=seeded(3))
    again = random_perspective_crops(images, 4, generator=seeded(3))
    other = random_perspective_crops(images, 4, generator=seeded(4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_picture_gets_the_same_crops_alone_and_first_in_a_batch(pictures):
    images = pictures(2, 24, 24)
    joint = random_perspective_crops(images, 4, generator=seeded())
    alone = random_perspective_crops(images[:1], 4, generator=seeded())
    assert torch.allclose(joint[:4], alone)


@pytest.mark.parametrize("output_size", [3, 9])
def test_crops_gradcheck(pictures, output_size):
    images = pictures(2, 8, 9).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda images: random_perspective_crops(images, 2, 0.8, 0.5, output_size, seeded()),
        (images,),
    )


def test_satisfied_crops_are_dropped_with_their_gradient():
    photo = torch.zeros(1, 2, dtype=torch.float64)
    style = torch.tensor([[1.0, 0.0]]).double()
    # losses: 0 (satisfied), 1 - cos 60° = 0.5 (satisfied), 1 (kept), 2 (kept)
    crops = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5], [0.0, 1.0], [-1.0, 0.0]]).double()
    crops.requires_grad_()
    loss = patch_directional_loss(crops, photo, style, threshold=0.7)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 2) / 4)
    assert torch.equal(crops.grad[:2], torch.zeros(2, 2).double())
    assert crops.grad[2].norm() > 0
    assert patch_directional_loss(crops, photo, style, threshold=0).item() == pytest.approx(3.5 / 4)
    assert patch_directional_loss(crops[:2], photo, style).item() == 0


def test_patch_loss_gradcheck(draw):
    inputs = (draw(6, 5).requires_grad_(), draw(2, 5).requires_grad_(), draw(2, 5).requires_grad_())
    assert torch.autograd.gradcheck(patch_directional_loss, inputs)


def test_module_pairs_crops_with_their_own_picture(pictures, encoder, draw):
    images, photos = pictures(3, 16, 16), pictures(3, 16, 16)
    style, source = draw(3, 6), draw(1, 6)
    module = PatchDirectionalLoss(
        encoder, 5, 0.5, 0.5, threshold=0, output_size=8, reduction="none"
    )
    losses = module(images, encoder(photos), style, source, seeded())
    assert encoder.batches[-1] == (15, 3, 8, 8)  # all crops of all pictures in one call
    crops = encoder(random_perspective_crops(images, 5, 0.5, 0.5, 8, seeded()))
    for b in range(3):
        expected = directional_loss(
            crops[5 * b : 5 * b + 5] - encoder(photos[b : b + 1]), style[b] - source[0]
        )
        assert losses[b].item() == pytest.approx(expected.item())


def test_gradients_reach_the_picture_and_lower_the_loss(pictures, encoder, draw):
    images = pictures(2, 16, 16).requires_grad_()
    photo = encoder(pictures(2, 16, 16))
    style, source = normalize(draw(2, 6), dim=-1), normalize(draw(2, 6), dim=-1)
    module = PatchDirectionalLoss(encoder, 8, threshold=0.0)
    loss = module(images, photo, style, source, seeded())
    loss.backward()
    assert (images.grad.flatten(1).abs().amax(1) > 0).all()
    with torch.no_grad():
        step = images - 0.01 * images.grad / images.grad.norm()
        assert module(step, photo, style, source, seeded()) < loss


def test_encoder_may_run_in_bfloat16_while_the_loss_is_float32(pictures, encoder, draw):
    images = pictures(1, 16, 16).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crops = random_perspective_crops(images, 2, generator=seeded())
        photo = encoder(images).bfloat16()
        style, source = normalize(draw(2, 1, 6), dim=-1).bfloat16()
        loss = PatchDirectionalLoss(encoder, 2)(images, photo, style, source, seeded())
    assert torch.equal(crops, random_perspective_crops(images, 2, generator=seeded()))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_crops": 0}, "num_crops"),
        ({"crop_fraction": 0.0}, "crop_fraction"),
        ({"crop_fraction": 1.5}, "crop_fraction"),
        ({"distortion": 0.7}, "distortion"),
        ({"distortion": -0.1}, "distortion"),
        ({"output_size": 0}, "output_size"),
    ],
)
def test_bad_arguments_are_refused(pictures, arguments, message):
    with pytest.raises(InputError, match=message):
        random_perspective_crops(pictures(1, 8, 8), **{"num_crops": 2, **arguments})


def test_shapes_that_do_not_fit_are_refused(draw):
    with pytest.raises(InputError, match="pictures must be"):
        random_perspective_crops(draw(3, 8, 8), 2)
    with pytest.raises(InputError, match="evenly"):
        patch_directional_loss(draw(5, 8), draw(2, 8), draw(2, 8))
    with pytest.raises(InputError, match="same CLIP"):
        patch_directional_loss(draw(4, 7), draw(2, 8), draw(2, 8))
