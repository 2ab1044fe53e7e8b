from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from clipmamba.errors import InputError
from clipmamba.losses import ContrastiveDirectionLoss, contrastive_direction_loss


def test_swapped_pairs_cost_more(draw):
    styles = draw(4, 16)
    images = styles + 0.3 * draw(4, 16)
    swapped = images[[1, 0, 3, 2]]
    assert contrastive_direction_loss(images, styles) < 0.1
    assert contrastive_direction_loss(swapped, styles) > 1


def test_value_is_the_written_out_formula(draw):
    images, styles = draw(3, 5), draw(3, 5)
    scores = (normalize(images, dim=-1) @ normalize(styles, dim=-1).T / 0.5).exp()
    total = 0.0
    for i in range(3):
        total -= math.log(scores[i, i] / scores[i].sum())
        total -= math.log(scores[i, i] / scores[:, i].sum())
    loss = contrastive_direction_loss(images, styles, temperature=0.5)
    assert loss.item() == pytest.approx(total / 6)


def test_pictures_that_all_go_one_way_cost_log_batch(draw):
    one = draw(1, 16).expand(5, -1)
    assert contrastive_direction_loss(one, one).item() == pytest.approx(math.log(5))


def test_same_style_is_no_negative(draw):
    directions = draw(3, 16)
    directions[1] = directions[0]
    ids = torch.tensor([7, 7, 2])
    without = contrastive_direction_loss(directions, directions)
    masked = contrastive_direction_loss(directions, directions, style_ids=ids)
    assert without > 0.3
    assert masked < 0.05


def test_gradient_skips_masked_pairs(draw):
    # two rows of one style, nothing else: no negatives, nothing to learn
    images = draw(2, 8).requires_grad_()
    loss = contrastive_direction_loss(images, draw(2, 8), style_ids=torch.tensor([3, 3]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(images.grad, torch.zeros_like(images))


@pytest.mark.parametrize("ids", [None, [0, 1, 0, 2]])
def test_gradcheck(draw, ids):
    style_ids = None if ids is None else torch.tensor(ids)
    inputs = (draw(4, 5).requires_grad_(), draw(4, 5).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda images, styles: contrastive_direction_loss(images, styles, 0.5, style_ids), inputs
    )


def test_module_judges_the_gathered_batch(draw):
    images, styles, ids = draw(4, 8), draw(4, 8), torch.tensor([0, 1, 1, 2])
    other = {images.dtype: iter((images[2:], styles[2:])), ids.dtype: iter((ids[2:],))}
    module = ContrastiveDirectionLoss(
        gather=lambda mine: torch.cat([mine, next(other[mine.dtype])])
    )
    expected = contrastive_direction_loss(images, styles, style_ids=ids)
    assert module(images[:2], styles[:2], ids[:2]).item() == expected.item()
    assert ContrastiveDirectionLoss()(images, styles, ids).item() == expected.item()


def test_autocast_does_not_cost_digits(draw):
    images, styles = draw(4, 16, dtype=torch.float32), draw(4, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = contrastive_direction_loss(images, styles)
    assert torch.equal(inside, contrastive_direction_loss(images, styles))


def test_bad_arguments_are_refused(draw):
    with pytest.raises(InputError, match=r"\(B, E\)"):
        contrastive_direction_loss(draw(2, 8), draw(3, 8))
    with pytest.raises(InputError, match="style_ids"):
        contrastive_direction_loss(draw(2, 8), draw(2, 8), style_ids=torch.tensor([1]))
    with pytest.raises(InputError, match="temperature"):
        contrastive_direction_loss(draw(2, 8), draw(2, 8), temperature=0)


def test_negatives_make_it_harder_only_for_pictures_that_lie_near_them():
    styles = torch.eye(8)[:2]
    images = styles + 0.1
    alone = contrastive_direction_loss(images, styles)
    far = contrastive_direction_loss(images, styles, negatives=-styles)
    near = contrastive_direction_loss(images, styles, negatives=styles)
    assert alone.item() == pytest.approx(far.item(), abs=1e-5)
    # in one of the two sums each positive has an equal among the negatives
    assert near.item() == pytest.approx(alone.item() + math.log(2) / 2, abs=1e-3)
