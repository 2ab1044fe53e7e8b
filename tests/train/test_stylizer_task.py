from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.train.stylizer_task import LossWeights, StylizerTask, pixel_loss

ALL = LossWeights(
    pixel=1, statistics=1, directional=1, patch=1, contrastive=1, layout=1, variation=1
)


class Fixed(nn.Module):
    """Stands where the stylizer stands: gives one answer and remembers what it was asked."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def draw_noise(self, height: int, width: int, seed: int) -> Tensor:
        return torch.full((1, 1, height // 2, width // 2), float(seed))

    def forward(self, photo: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        self.photo, self.style, self.noise = photo, style, noise
        return self.answer


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    photo, result, reference = torch.rand(3, 4, 3, 32, 32, generator=generator)
    return {
        "photo": photo,
        "result": result,
        "reference": reference,
        "style": F.normalize(torch.randn(4, 16, generator=generator), dim=1),
        "style_id": torch.tensor([0, 1, 1, 2]),
        "noise_seed": torch.tensor([7, 5, 7, 3]),
        "own_style": torch.tensor([True, False, False, False]),
    }


@pytest.fixture
def source() -> Tensor:
    return F.normalize(torch.ones(16), dim=0)


def shallow(images: Tensor) -> list[Tensor]:
    return [images, *(F.avg_pool2d(images, 2**power) for power in (1, 2, 3))]


STYLE_FEATURES = {"statistics": shallow, "stages": shallow}


def wanted(batch: dict[str, Tensor]) -> Tensor:
    """The answer that fulfils every pair, and gives the photo back for its own style."""
    own = batch["own_style"][:, None, None, None]
    return torch.where(own, batch["photo"], batch["result"])


def test_the_wanted_picture_has_no_pixel_loss(clip, batch, source):
    task = StylizerTask(Fixed(wanted(batch)), clip, source, LossWeights(pixel=1))
    assert task(batch)["pixel"] == 0
    task = StylizerTask(Fixed(batch["result"]), clip, source, LossWeights(pixel=1))
    assert task(batch)["pixel"] > 0.1  # the first should have been its own photo


def test_a_photo_in_its_own_style_is_asked_for_with_its_own_point(clip, batch, source):
    stylizer = Fixed(batch["photo"])
    for weights in (LossWeights(pixel=1), ALL):
        StylizerTask(stylizer, clip, source, weights, STYLE_FEATURES)(batch)
        own = clip.encode_image(batch["photo"][:1])
        assert torch.allclose(stylizer.style[:1], own, atol=1e-6)
        assert torch.equal(stylizer.style[1:], batch["style"][1:])
        assert torch.equal(stylizer.photo, batch["photo"])


def test_each_photo_has_the_noise_of_its_seed(clip, batch, source):
    stylizer = Fixed(batch["photo"])
    StylizerTask(stylizer, clip, source, LossWeights(pixel=1))(batch)
    assert stylizer.noise.shape == (4, 1, 16, 16)
    assert stylizer.noise[:, 0, 0, 0].tolist() == [7, 5, 7, 3]


def test_only_weighted_losses_are_computed(clip, batch, source):
    for name in (field.name for field in dataclasses.fields(LossWeights)):
        weights = LossWeights(**{"pixel": 0, name: 0.5})
        source_of = {**{own: own for own in STYLE_FEATURES}, "content": "stages"}
        features = {source_of[name]: shallow} if name in source_of else None
        losses = StylizerTask(Fixed(wanted(batch)), clip, source, weights, features)(batch)
        assert set(losses) == {name} | ({"discriminator"} if name == "adversarial" else set())


def test_every_loss_reaches_the_stylizer(clip, batch, source):
    for name in (field.name for field in dataclasses.fields(LossWeights)):
        stylizer = Fixed(torch.rand_like(batch["photo"]))
        weights = LossWeights(**{"pixel": 0, name: 1})
        StylizerTask(stylizer, clip, source, weights, STYLE_FEATURES)(batch)[name].backward()
        gradient = stylizer.answer.grad.flatten(1).abs().amax(1)
        assert gradient[1:].max() > 0, name
        styled = ("adversarial", "content", "directional", "patch", "contrastive")
        if name in (*styled, *STYLE_FEATURES):
            assert gradient[0] == 0, name  # a photo in its own style has no way to go


def test_the_two_sides_of_the_adversarial_loss_do_not_train_each_other(clip, batch, source):
    stylizer = Fixed(torch.rand_like(batch["photo"]))
    task = StylizerTask(stylizer, clip, source, LossWeights(pixel=0, adversarial=1))
    losses = task(batch)
    losses["adversarial"].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in task.discriminator.parameters())
    before = stylizer.answer.grad.clone()
    losses["discriminator"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in task.discriminator.parameters())
    assert torch.equal(stylizer.answer.grad, before)


def test_style_losses_are_means_over_the_pairs_that_have_a_style(clip, batch, source):
    weights = LossWeights(pixel=0, directional=1, statistics=1, contrastive=1)
    answer = torch.rand_like(batch["photo"])
    with_identity = StylizerTask(Fixed(answer), clip, source, weights, STYLE_FEATURES)(batch)
    rest = {name: value[1:] for name, value in batch.items()}
    alone = StylizerTask(Fixed(answer[1:]), clip, source, weights, STYLE_FEATURES)(rest)
    for name, value in alone.items():
        assert torch.allclose(with_identity[name], value, rtol=1e-5), name


def test_pictures_that_show_the_style_have_no_statistics_loss(clip, batch, source):
    batch["reference"] = batch["result"].flip(-1)  # where things are does not matter
    weights = LossWeights(pixel=0, statistics=1)
    losses = StylizerTask(Fixed(batch["result"]), clip, source, weights, STYLE_FEATURES)(batch)
    assert losses["statistics"] < 1e-10


def test_content_may_change_its_colours_but_not_move(clip, batch, source):
    weights = LossWeights(pixel=0, content=1)

    def content(answer: Tensor) -> float:
        task = StylizerTask(Fixed(answer), clip, source, weights, STYLE_FEATURES)
        return task(batch)["content"].item()

    photo = batch["photo"]
    assert content(0.2 + 0.5 * photo) < 1e-3
    assert content(photo.flip(-1)) > 0.5
    assert content(photo.flip(-1)) > content(0.7 * photo + 0.3 * photo.flip(-1)) > 0.01


def test_moving_towards_another_style_costs_more(clip, batch, source):
    weights = LossWeights(pixel=0, directional=1, contrastive=1)
    answer = torch.rand_like(batch["photo"])
    with torch.no_grad():
        move = clip.encode_image(answer) - clip.encode_image(batch["photo"])
    batch["style_id"] = torch.arange(4)
    batch["style"] = source + move
    right = StylizerTask(Fixed(answer), clip, source, weights)(batch)
    assert right["directional"] < 1e-5
    batch["style"] = batch["style"][[0, 2, 3, 1]]
    wrong = StylizerTask(Fixed(answer), clip, source, weights)(batch)
    assert wrong["directional"] > right["directional"]
    assert wrong["contrastive"] > right["contrastive"]


def test_frozen_networks_are_no_part_of_the_trained_state(clip, stylizer, source):
    task = StylizerTask(stylizer, clip, source, ALL, STYLE_FEATURES)
    assert {name.split(".")[0] for name in task.state_dict()} == {"stylizer"}
    assert {id(p) for p in task.parameters()} == {id(p) for p in stylizer.parameters()}


def test_nothing_to_learn_is_refused(clip, stylizer, source):
    with pytest.raises(InputError, match="weight 0"):
        StylizerTask(stylizer, clip, source, LossWeights(pixel=0))
    with pytest.raises(InputError, match="features"):
        StylizerTask(stylizer, clip, source, LossWeights(statistics=1))


def test_pixel_loss_sees_colour_and_edges():
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert pixel_loss(photo, photo) == 0
    assert pixel_loss(photo + 0.1, photo).item() == pytest.approx(0.1, rel=1e-4)
    noise = 0.1 * torch.sign(torch.rand(2, 3, 32, 32) - 0.5)
    edges = pixel_loss(photo + noise, photo) - pixel_loss(photo + noise, photo + noise.mean())
    assert pixel_loss(photo + noise, photo) > 0.1  # its gradients count beside the same L1
    assert edges.abs() < 0.05
