from __future__ import annotations

import pytest
import torch

from clipmamba.errors import InputError
from clipmamba.losses import (
    StandardizedStatisticsLoss,
    StyleStatisticsLoss,
    channel_statistics,
    content_loss,
    standardized_statistics_loss,
    style_statistics_loss,
)


def test_statistics_do_not_see_places_but_content_does(draw, generator):
    features = draw(2, 4, 5, 6)
    order = torch.randperm(30, generator=generator)
    shuffled = features.flatten(2)[:, :, order].view_as(features)
    target = draw(2, 4, 7, 3)
    before, after = (style_statistics_loss(f, target).item() for f in (features, shuffled))
    assert before == pytest.approx(after, rel=1e-12)
    assert before > 0.01
    assert style_statistics_loss(shuffled, features).item() == pytest.approx(0, abs=1e-12)
    assert content_loss(shuffled, features).item() > 0.5


def test_value_is_the_written_out_formula(draw):
    features, targets = [draw(1, 2, 4, 4), draw(1, 3, 2, 5)], [draw(1, 2, 3, 3), draw(1, 3, 4, 4)]
    expected = 0.0
    for weight, feature, target in zip((1.0, 0.5), features, targets, strict=True):
        for channel in range(feature.shape[1]):
            f, t = feature[0, channel], target[0, channel]
            terms = (f.mean() - t.mean()) ** 2 + (f.std(correction=0) - t.std(correction=0)) ** 2
            expected += weight * terms.item() / feature.shape[1]
    loss = style_statistics_loss(features, targets, weights=(1.0, 0.5), eps=0)
    assert loss.item() == pytest.approx(expected)
    assert StyleStatisticsLoss((1.0, 0.5), eps=0)(features, targets).item() == loss.item()


def test_samples_are_judged_one_by_one(draw):
    features, targets = [draw(3, 2, 4, 4)], [draw(3, 2, 4, 4)]
    losses = style_statistics_loss(features, targets, reduction="none")
    assert losses.shape == (3,)
    for b in range(3):
        one = style_statistics_loss(features[0][b : b + 1], targets[0][b : b + 1])
        assert one.item() == pytest.approx(losses[b].item())


def test_gradcheck(draw):
    features, target = draw(2, 3, 4, 5).requires_grad_(), draw(2, 3, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(style_statistics_loss, (features, target))


def test_a_flat_channel_has_a_finite_gradient():
    features = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
    style_statistics_loss(features, torch.rand(1, 2, 4, 4)).backward()
    assert torch.isfinite(features.grad).all()


def test_autocast_and_bfloat16_features_do_not_cost_digits(draw):
    features = (100 + draw(1, 2, 8, 8, dtype=torch.float32)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = style_statistics_loss([features], [features + 1])
    assert torch.equal(inside, style_statistics_loss([features.float()], [(features + 1).float()]))
    mean, deviation = channel_statistics(features.float())
    assert mean.shape == deviation.shape == (1, 2)


def test_layers_that_do_not_fit_are_refused(draw):
    with pytest.raises(InputError, match="same number of layers"):
        style_statistics_loss([draw(1, 2, 3, 3)], [])
    with pytest.raises(InputError, match="layer 0"):
        style_statistics_loss([draw(1, 2, 3, 3)], [draw(1, 4, 3, 3)])
    with pytest.raises(InputError, match="weights"):
        style_statistics_loss([draw(1, 2, 3, 3)], [draw(1, 2, 3, 3)], weights=(1.0, 2.0))


def test_standardized_value_is_the_written_out_formula(draw):
    statistics, target = draw(3, 5), draw(3, 5)
    spread = torch.tensor([0.01, 0.1, 1.0, 2.0, 10.0], dtype=statistics.dtype)
    for row in range(3):
        apart = ((statistics[row] - target[row]) / spread).abs().tolist()
        expected = sum(x**2 / 2 if x < 1 else x - 0.5 for x in apart) / 5
        loss = standardized_statistics_loss(statistics, target, spread, "none")[row]
        assert loss.item() == pytest.approx(expected)
    module = StandardizedStatisticsLoss(spread)
    assert module(statistics, target) == standardized_statistics_loss(statistics, target, spread)
    assert module(target, target) == 0
    inputs = (statistics.requires_grad_(), target.requires_grad_(), spread)
    assert torch.autograd.gradcheck(standardized_statistics_loss, inputs)


def test_standardized_statistics_must_fit(draw):
    with pytest.raises(InputError, match="spread"):
        standardized_statistics_loss(draw(2, 4), draw(2, 4), draw(3))
    with pytest.raises(InputError, match="target"):
        standardized_statistics_loss(draw(2, 4), draw(1, 4), draw(4))
