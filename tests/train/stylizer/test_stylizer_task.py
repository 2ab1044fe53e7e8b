from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.nn import PictureMoments
from clipmamba.train.stylizer.task import LossWeights, StylizerTask, pixel_loss

ALL = LossWeights(
    pixel=1, distil=1, statistics=1, recognition=1, content=1, texture=1, drift=1, gamut=1,
    directional=1, patch=1, contrastive=1, layout=1, variation=1, tiles=1,
)  # fmt: skip
SPREAD = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.1, 0.1])


class Fixed(nn.Module):
    """Stands where the stylizer stands: gives one answer and remembers what it was asked."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def draw_noise(self, height: int, width: int, seed: int = 0) -> Tensor:
        return torch.full((1, 1, height // 2, width // 2), float(seed))

    def forward(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        if len(photo) < len(self.answer):  # a tile
            return self.answer[-len(photo) :, :, : photo.shape[2], : photo.shape[3]]
        self.photo, self.style, self.noise = photo, style, noise
        return self.answer


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    photo, result = torch.rand(2, 4, 3, 32, 32, generator=generator)
    return {  # a photo as it is, what a painter made, what a network made, a style picture's
        "photo": photo,
        "result": result,
        "exact": torch.tensor([True, True, False, False]),
        "taught": torch.tensor([False, False, True, False]),
        "target": torch.rand(4, SPREAD.numel(), generator=generator),
        "look": torch.tensor([-1, -1, 2, 0]),
        "nearness": torch.tensor(0.75),
        "style": F.normalize(torch.randn(4, 16, generator=generator), dim=1),
        "style_id": torch.tensor([0, 1, 2, 3]),
        "noise_seed": torch.tensor([7, 5, 7, 3]),
        "own_style": torch.tensor([True, False, False, False]),
    }


@pytest.fixture
def source() -> Tensor:
    return F.normalize(torch.ones(16), dim=0)


def look(images: Tensor) -> tuple[list[Tensor], Tensor]:
    maps = [F.avg_pool2d(images, 2**power) for power in (1, 2)]
    return maps, torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


CLASSIFIER = nn.Linear(SPREAD.numel(), 3).requires_grad_(False)
nn.init.orthogonal_(CLASSIFIER.weight)
LOOK = (look, SPREAD, CLASSIFIER)


def wanted(batch: dict[str, Tensor]) -> Tensor:
    """The answer that fulfils every pair, and gives the photo back for its own style."""
    own = batch["own_style"][:, None, None, None]
    return torch.where(own, batch["photo"], batch["result"])


def test_the_wanted_picture_has_no_pixel_loss(clip, batch, source):
    task = StylizerTask(Fixed(wanted(batch)), clip, source, LossWeights(pixel=1))
    assert task(batch)["pixel"] == 0
    task = StylizerTask(Fixed(batch["result"]), clip, source, LossWeights(pixel=1))
    assert task(batch)["pixel"] > 0.1  # the first should have been its own photo


def test_only_exact_results_are_asked_for_by_the_pixel(clip, batch, source):
    """What another network made has a loss of its own, and a style picture's match none."""
    for place, name in ((0, "pixel"), (1, "pixel"), (2, "distil"), (3, "")):
        answer = wanted(batch)
        answer[place] = answer[place].flip(-1)
        task = StylizerTask(Fixed(answer), clip, source, LossWeights(pixel=1, distil=1))
        assert {key for key, value in task(batch).items() if value > 0} == ({name} - {""})


def test_a_photo_in_its_own_style_is_asked_for_with_its_own_point(clip, batch, source):
    stylizer = Fixed(batch["photo"])
    for weights in (LossWeights(pixel=1), ALL):
        StylizerTask(stylizer, clip, source, weights, *LOOK)(batch)
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
        looking = LOOK if name in ("statistics", "recognition", "content") else ()
        losses = StylizerTask(Fixed(wanted(batch)), clip, source, weights, *looking)(batch)
        assert set(losses) == {name} | ({"discriminator"} if name == "adversarial" else set())


def test_every_loss_reaches_the_stylizer(clip, batch, source):
    batch["photo"] = 0.4 + 0.2 * batch["photo"]
    for name in (field.name for field in dataclasses.fields(LossWeights)):
        stylizer = Fixed(1.2 * torch.rand_like(batch["photo"]))
        weights = LossWeights(**{"pixel": 0, name: 1})
        StylizerTask(stylizer, clip, source, weights, *LOOK)(batch)[name].backward()
        gradient = stylizer.answer.grad.flatten(1).abs().amax(1)
        assert gradient[1:].max() > 0, name
        anywhere = ("pixel", "distil", "gamut", "layout", "variation")
        if name not in anywhere:
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


@pytest.mark.parametrize("exact", [0, 1, 3])
def test_the_adversarial_losses_are_means_over_the_exact_pairs(clip, batch, source, exact):
    batch["exact"] = torch.arange(4) <= exact  # the first is a photo as it is, and not judged
    same = {"photo": batch["photo"][:1], "result": batch["result"][:1], "style": batch["style"][:1]}
    batch |= {name: value.repeat(4, *[1] * (value.ndim - 1)) for name, value in same.items()}
    stylizer = Fixed(torch.full_like(batch["photo"], 0.3))
    task = StylizerTask(stylizer, clip, source, LossWeights(pixel=0, adversarial=1))
    for parameter in task.discriminator.parameters():
        torch.nn.init.constant_(parameter, 0.02)
    losses = task(batch)
    judged = [task.discriminator(x[1:2], batch["photo"][1:2], batch["style"][1:2])
              for x in (batch["result"], stylizer.answer)]  # fmt: skip
    expected = (judged[0] - 1).square().mean() + judged[1].square().mean()
    torch.testing.assert_close(losses["discriminator"], expected if exact else expected * 0)


def test_style_losses_are_means_over_the_pairs_that_have_a_style(clip, batch, source):
    weights = LossWeights(pixel=0, directional=1, statistics=1, contrastive=1)
    answer = torch.rand_like(batch["photo"])
    with_identity = StylizerTask(Fixed(answer), clip, source, weights, *LOOK)(batch)
    rest = {name: value[1:] if value.ndim else value for name, value in batch.items()}
    alone = StylizerTask(Fixed(answer[1:]), clip, source, weights, *LOOK)(rest)
    for name, value in alone.items():
        assert torch.allclose(with_identity[name], value, rtol=1e-5), name


def test_pictures_that_show_the_style_have_no_statistics_loss(clip, batch, source):
    side = round(32 * batch["nearness"].item())
    seen = F.interpolate(batch["result"], (side, side), mode="bilinear", antialias=True)
    batch["target"][2:] = look(seen)[1][2:]  # the second is exact: its own result is its target
    weights = LossWeights(pixel=0, statistics=1)

    def statistics(answer: Tensor) -> float:
        task = StylizerTask(Fixed(answer), clip, source, weights, *LOOK)
        return task(batch)["statistics"].item()

    assert statistics(batch["result"].flip(-1)) < 1e-6  # where things are does not matter
    for place in (1, 2, 3):
        answer = batch["result"].clone()
        answer[place] *= 0.5
        assert statistics(answer) > 0.1


def test_a_picture_is_to_be_recognised_as_its_look(clip, batch, source):
    weights = LossWeights(pixel=0, recognition=1)

    def recognition(answer: Tensor) -> float:
        return StylizerTask(Fixed(answer), clip, source, weights, *LOOK)(batch)[
            "recognition"
        ].item()

    side = round(32 * batch["nearness"].item())
    answer = batch["photo"].clone()
    seen = F.interpolate(answer[2:], (side, side), mode="bilinear", antialias=True)
    logits = CLASSIFIER(look(seen)[1] / SPREAD)
    expected = F.cross_entropy(logits, batch["look"][2:]).item()
    assert recognition(answer) == pytest.approx(expected, rel=1e-4)
    answer[:2] = 0  # the first is in its own style, the second a painter's: of no class
    assert recognition(answer) == pytest.approx(expected, rel=1e-4)


def test_texture_goes_where_the_photo_has_some(clip, batch, source):
    weights = LossWeights(pixel=0, texture=1)

    def texture(answer: Tensor) -> float:
        return StylizerTask(Fixed(answer), clip, source, weights)(batch)["texture"].item()

    grain = batch["photo"].clone()
    batch["photo"] = 0 * grain + 0.5
    assert texture(batch["photo"]) == 0
    answer = batch["photo"].clone()
    answer[:2] = grain[:2]  # exact pairs say themselves where it goes
    assert texture(answer) == 0
    assert texture(grain) > 0.05


def test_a_colour_goes_the_same_way_everywhere(clip, batch, source):
    weights = LossWeights(pixel=0, drift=1)

    def drift(answer: Tensor) -> float:
        return StylizerTask(Fixed(answer), clip, source, weights)(batch)["drift"].item()

    mapped = 0.9 - 0.6 * batch["photo"].flip(1)
    assert drift(mapped) < 1e-3
    patch = mapped.clone()
    patch[:2, :, :, 16:] = 0  # exact pairs say themselves which colour goes where
    assert drift(patch) < 1e-3
    patch[2:, :, :, 16:] = 0
    assert drift(patch) > 0.01


def test_what_is_cut_off_costs(clip, batch, source):
    def gamut(answer: Tensor) -> float:
        task = StylizerTask(Fixed(answer), clip, source, LossWeights(pixel=0, gamut=1))
        return task(batch)["gamut"].item()

    assert gamut(batch["photo"]) == 0
    assert gamut(batch["photo"] * 0 - 0.1) == pytest.approx(0.01)
    assert gamut(batch["photo"] * 0 + 1.2) == pytest.approx(0.04)


class Tinted(Fixed):
    """Changes the photo by the mean of what it shows, or of what it found in the whole."""

    def __init__(self, remembers: bool):
        super().__init__(torch.ones(()))
        self.remembers = remembers

    def forward(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        mean = photo.mean((2, 3), keepdim=True)
        if self.remembers and whole is not None:
            _, mean = whole.of(self, photo)
        return photo * self.answer + mean


def test_a_tile_is_drawn_as_the_whole(clip, batch, source):
    weights = LossWeights(pixel=0, tiles=1)
    batch["photo"][..., 16:] /= 2  # parts have other means than the whole
    remembers, forgets = (
        StylizerTask(Tinted(kind), clip, source, weights)(batch)["tiles"] for kind in (True, False)
    )
    assert remembers < 1e-9
    assert forgets > 5e-3


def test_content_may_change_its_colours_but_not_move(clip, batch, source):
    weights = LossWeights(pixel=0, content=1)

    def content(answer: Tensor) -> float:
        task = StylizerTask(Fixed(answer), clip, source, weights, *LOOK)
        return task(batch)["content"].item()

    photo = batch["photo"]
    assert content(0.2 + 0.5 * photo) < 1e-3
    exact = torch.cat([batch["result"][:2], photo[2:]])
    assert content(exact) < 1e-3  # an exact result says itself where things go
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
    task = StylizerTask(stylizer, clip, source, ALL, *LOOK)
    assert {name.split(".")[0] for name in task.state_dict()} == {"stylizer"}
    assert {id(p) for p in task.parameters()} == {id(p) for p in stylizer.parameters()}


def test_nothing_to_learn_is_refused(clip, stylizer, source):
    with pytest.raises(InputError, match="weight 0"):
        StylizerTask(stylizer, clip, source, LossWeights(pixel=0))
    with pytest.raises(InputError, match="look with"):
        StylizerTask(stylizer, clip, source, LossWeights(statistics=1))
    with pytest.raises(InputError, match="recognition"):
        StylizerTask(stylizer, clip, source, LossWeights(recognition=1), look, SPREAD)


def test_pixel_loss_sees_colour_and_edges():
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert pixel_loss(photo, photo).tolist() == [0, 0]
    assert pixel_loss(photo + 0.1, photo)[1].item() == pytest.approx(0.1, rel=1e-4)
    noise = 0.1 * torch.sign(torch.rand(2, 3, 32, 32) - 0.5)
    near = pixel_loss(photo + noise, photo)
    edges = near - pixel_loss(photo + noise, photo + noise.mean())
    assert (near > 0.1).all()  # its gradients count beside the same L1
    assert (edges.abs() < 0.05).all()
