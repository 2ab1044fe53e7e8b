from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.losses.calm import calm_loss

SIDE = 48


def flat(*size: int) -> Tensor:
    return torch.full((2, 3, *(size or (SIDE, SIDE))), 0.5)


def busy(strength: float = 0.5, side: int = SIDE) -> Tensor:
    noise = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0)) - 0.5
    return (0.5 + strength * noise).expand(2, 3, side, side).clone()


def half(left: Tensor, right: Tensor) -> Tensor:
    return torch.cat([left[..., : SIDE // 2], right[..., SIDE // 2 :]], dim=3)


def test_a_calm_sky_costs_nothing_and_flecks_cost_by_their_strength():
    style = flat()
    assert calm_loss(flat(), flat(), style) == 0
    weak, strong = (calm_loss(busy(s), flat(), style).item() for s in (0.2, 0.6))
    assert 0.01 < weak < strong


def test_texture_is_free_where_the_photo_has_some():
    assert calm_loss(busy(0.8), busy(), flat()) == 0
    photo = half(busy(), flat())
    in_busy, in_flat = (calm_loss(half(a, b), photo, flat())
                        for a, b in ((busy(), flat()), (flat(), busy())))  # fmt: skip
    assert in_flat > 5 * in_busy  # but for windows across the border


def test_patches_of_color_cost_though_they_have_one_brightness():
    output = flat()
    output[:, 0, :, ::8] += 0.3
    output[:, 2, :, ::8] -= 0.3 * 0.299 / 0.114  # luma stays
    assert calm_loss(output, flat(), flat()) > 0.02


def test_the_grain_of_the_photo_may_stay():
    grain = busy(0.04)
    assert calm_loss(grain, grain, flat()) == 0
    assert calm_loss(busy(0.16), grain, flat()) > 0.01


def test_a_style_without_a_calm_part_may_be_busy_everywhere():
    output = busy()
    mosaic, mostly_busy, print_ = busy(), half(busy(), busy()), half(flat(), busy())
    assert calm_loss(output, flat(), mosaic) == pytest.approx(0, abs=0.01)
    assert calm_loss(output, flat(), mostly_busy) == pytest.approx(0, abs=0.01)
    assert calm_loss(output, flat(), print_) > 0.05


def test_another_brightness_or_color_is_calm():
    output = flat()
    output[:, 0], output[:, 2] = 0.9, 0.1
    assert calm_loss(output, flat(), flat()) == 0


def test_pictures_of_other_sizes_and_reductions():
    style = busy(0.1, 30)
    each = calm_loss(busy()[..., :31, :27], flat(31, 27), style, "none")
    assert each.shape == (2,)
    torch.testing.assert_close(calm_loss(busy()[..., :31, :27], flat(31, 27), style), each.mean())


def test_flecks_get_a_gradient_and_calm_parts_none():
    output = half(busy(), flat()).requires_grad_()
    calm_loss(output, flat(), flat()).backward()
    gradient = output.grad.abs().amax((0, 1, 2))
    assert gradient.isfinite().all()
    assert gradient[: SIDE // 2 - 8].min() > 0
    assert gradient[SIDE // 2 + 8 :].max() == 0


def test_what_are_no_pictures_is_refused():
    with pytest.raises(InputError, match="pictures"):
        calm_loss(torch.rand(3, 8, 8), torch.rand(3, 8, 8), torch.rand(3, 8, 8))
