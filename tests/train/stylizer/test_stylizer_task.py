from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.losses.terms import Term, select_terms
from clipmamba.models import Stylizer
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.train.stylizer.task import (
    TERMS,
    LossWeights,
    StyleMoments,
    StylizerTask,
    pixel_loss,
)

CLIP_LOOKS = 4  # seeds of steps on which CLIP looks, and does not
CLIP_RESTS = 0


class Fixed(nn.Module):
    """Answers with given pictures, whatever it is shown."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = nn.Parameter(answer.clone())

    def draw_noise(self, height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
        return torch.zeros(batch, 1, 1, 1)

    def noise_power(self, style: Tensor, stroke: Tensor) -> Tensor:
        return torch.arange(1.0, len(style) + 1)

    def forward(self, photo, style, noise, stroke=None) -> Tensor:
        return self.answer


@pytest.fixture
def batch(data: Path, prepared: Prepared) -> dict[str, Tensor]:
    source = StylizerBatches(data, prepared, 4, (64,), (0.5, 5.0), exact=1, seed=0)
    face = torch.tensor([[8.0, 4.0, 40.0, 48.0], [0.0] * 4, [0.0, 0.0, 9.0, 40.0]])
    return source.batch(0, 0, 1) | {"seed": torch.tensor(CLIP_LOOKS), "face": face}


@pytest.fixture
def losses_of(networks: dict[str, nn.Module], batch: dict[str, Tensor]):
    """Losses of an answer to the batch."""

    def losses_of(answer: Tensor, **changes: Tensor) -> dict[str, float]:
        losses = StylizerTask(Fixed(answer), networks)(batch | changes)
        return {name: value.item() for name, value in losses.items()}

    return losses_of


def test_all_losses_reach_all_weights_of_the_stylizer(task: StylizerTask, batch):
    losses = task(batch)
    assert set(losses) == {term.name for term in TERMS}
    assert all(value.isfinite() and value.shape == () for value in losses.values())
    sum(losses.values()).backward()
    missing = [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_the_same_batch_gives_the_same_losses(task: StylizerTask, batch):
    task.discriminator.eval()  # each forward pass in training improves its spectral norms
    first = task(batch)
    torch.rand(7)  # whatever else is drawn
    assert {name: value.item() for name, value in task(batch).items()} == {
        name: value.item() for name, value in first.items()
    }


def test_an_exact_result_is_its_own_target(batch, losses_of):
    answer = batch["photo"].clone()
    answer[3:] = batch["result"]
    right = losses_of(answer)
    assert right["pixel"] < 1e-6
    wrong = losses_of(batch["photo"])
    assert wrong["pixel"] > 0.1
    assert wrong["texture"] > right["texture"]
    assert wrong["content"] == pytest.approx(right["content"])  # not asked of it


def test_content_is_free_in_color_and_may_not_move(batch, losses_of):
    photo = torch.rand_like(batch["photo"])

    def content(answer: Tensor) -> float:
        return losses_of(answer, photo=photo)["content"]

    kept, moved = content(photo), content(photo.flip(-1))
    assert kept < 0.4 * moved
    assert content(0.2 + 0.6 * photo) < 0.6 * moved
    assert kept < content(0.7 * photo + 0.3 * photo.flip(-1)) < moved


def test_larger_strokes_are_wanted_where_they_are_asked_for(batch, losses_of):
    """A checkerboard, as fine and as coarse as two sizes of strokes ask for it."""

    def board(side: int, cell: int) -> Tensor:
        place = torch.arange(side) // cell % 2
        return (place[:, None] ^ place).float().expand(4, 3, side, side).clone()

    shown = {"picture": board(256, 4)[:3], "photo": board(64, 8), "result": board(64, 8)[:1]}
    for stroke, right, wrong in ((1.0, 4, 2), (0.5, 2, 4)):
        sizes = {"stroke": torch.full((4,), stroke)}
        textures = {}
        for cell in (right, wrong):
            answer = board(64, cell)
            answer[3:] = shown["result"]  # exact as it is
            textures[cell] = losses_of(answer, **shown, **sizes)["texture"]
        assert textures[right] < textures[wrong]


def test_a_style_picture_is_seen_once_at_each_size(networks: dict[str, nn.Module]):
    seen: list[int] = []

    def vgg(images: Tensor) -> list[Tensor]:
        seen.append(images.shape[2])
        return networks["vgg"](images)

    pictures = torch.rand(3, 3, 64, 64)
    moments = StyleMoments(capacity=3)
    first = moments.at(48, pictures, [7, 8, 7], vgg)
    again = moments.at(48, pictures, [7, 8, 7], vgg)
    assert seen == [48, 48]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.gram, other.gram)
        assert torch.equal(one.mean[0], one.mean[2])
        assert not torch.equal(one.mean[0], one.mean[1])
    assert not torch.equal(moments.at(64, pictures, [7, 8, 7], vgg)[0].mean, first[0].mean)
    assert seen == [48, 48, 64, 64]
    moments.at(48, pictures[:1], [7], vgg)
    assert seen == [48, 48, 64, 64]
    moments.at(48, pictures[1:2], [8], vgg)  # dropped: not used for longest
    assert seen == [48, 48, 64, 64, 48]


def test_a_face_keeps_its_features_in_any_color(batch, losses_of):
    """The first sample has a face, the second has none, that of the third is too small."""
    photo = batch["photo"]
    kept = losses_of(photo)["face"]  # not 0: channels that see nothing count as different
    melted = photo.clone()
    melted[0, :, 4:48, 8:40] = photo[0, :, 4:48, 8:40].flip(-1)
    lost = losses_of(melted)["face"]
    assert lost > 2 * kept
    assert losses_of(0.2 + 0.6 * photo)["face"] < 0.3 * kept + 0.7 * lost
    elsewhere = photo.clone()
    elsewhere[1:] = photo[1:].flip(-1)
    elsewhere[0, :, 52:] = 0
    assert losses_of(elsewhere)["face"] == pytest.approx(kept)


def test_without_a_face_there_is_no_such_loss(batch, losses_of):
    assert "face" not in losses_of(batch["photo"], face=torch.zeros(3, 4))


def test_flecks_in_a_sky_cost(batch, losses_of):
    grain = batch["photo"].clone()
    sky = torch.full_like(grain, 0.5)
    print_ = torch.full_like(batch["picture"], 0.7)
    assert losses_of(sky, photo=sky, picture=print_)["calm"] == 0
    flecks = losses_of((sky + 0.2 * torch.randn_like(sky)).clamp(0, 1), photo=sky, picture=print_)
    assert flecks["calm"] > 0.05


def test_noise_costs_for_styles_with_calm_parts(batch, losses_of):
    print_ = torch.full_like(batch["picture"], 0.7)
    dabs = torch.rand_like(print_)
    some = torch.cat([print_[:1], dabs[:1], print_[:1]])
    calm, restless, mixed = (
        losses_of(batch["photo"], picture=picture)["noise"] for picture in (print_, dabs, some)
    )
    assert calm == pytest.approx((1 + 2 + 3) / 3, rel=0.1)
    assert restless == 0
    assert mixed == pytest.approx((1 + 3) / 3, rel=0.1)


def test_what_is_cut_off_costs(batch, losses_of):
    assert losses_of(batch["photo"])["gamut"] == 0
    assert losses_of(batch["photo"] * 0 - 0.1)["gamut"] == pytest.approx(0.01)
    assert losses_of(batch["photo"] * 0 + 1.2)["gamut"] == pytest.approx(0.04)


def test_shares_of_unlike_processes_are_together_the_joint_batch(stylizer, networks, batch):
    """Two free samples here, one and an exact pair there; CLIP's contrast is within a process."""
    task = StylizerTask(stylizer, networks, LossWeights(directional=0, contrastive=0))
    with torch.no_grad():
        task.stylizer.grain.mix.weight.zero_()  # each draws its own noise
    batch |= {"stroke": torch.full((4,), 1.5), "picture": batch["picture"][..., :64, :64]}
    rows = ("photo", "style", "stroke", "picture", "picture_key", "face")
    parts = []
    for some, free in ((slice(0, 2), 2), (slice(2, 4), 1)):
        part = {name: batch[name][some] for name in rows}
        part["result"] = batch["result"][: 2 - free]
        part |= {name: batch[name] for name in ("seed", "others", "source")}
        part["weights"] = torch.tensor([2 * free / 3, 2.0 * (2 - free)])
        parts.append(part)

    def gradient(batches: list[dict[str, Tensor]]) -> tuple[dict[str, float], Tensor]:
        task.zero_grad()
        means: dict[str, float] = {}
        for each in batches:
            for name, value in task(each).items():
                (value / len(batches)).backward(retain_graph=True)
                means[name] = means.get(name, 0) + value.item() / len(batches)
        return means, torch.cat([p.grad.flatten() for p in task.parameters()])

    (joint, expected), (means, found) = gradient([batch]), gradient(parts)
    assert means == pytest.approx(joint, rel=1e-4)
    # an L1 loss is steep at 0, so that rounding is seen
    assert (found - expected).norm() < 0.02 * expected.norm()
    unweighted = gradient([part | {"weights": torch.ones(2)} for part in parts])[1]
    assert (unweighted - expected).norm() > 0.1 * expected.norm()


def test_frozen_networks_move_with_the_task_and_are_no_part_of_its_state(
    task: StylizerTask, stylizer: Stylizer, batch
):
    assert {name.split(".")[0] for name in task.state_dict()} == {"stylizer", "discriminator"}
    trained = [*stylizer.parameters(), *task.discriminator.parameters()]
    assert {id(p) for p in task.parameters()} == {id(p) for p in trained}
    vgg, clip = task._frozen["vgg"], task._frozen["clip"]
    before = vgg.conv1_1.weight.clone()
    task.double()
    assert {p.dtype for p in (*vgg.parameters(), *clip.parameters())} == {torch.float64}
    batch |= {"seed": torch.tensor(CLIP_RESTS)}  # it reads float32
    wide = {name: v.double() if v.is_floating_point() else v for name, v in batch.items()}
    assert all(value.isfinite() for value in task(wide).values())
    task.float()
    assert torch.equal(vgg.conv1_1.weight, before)
    assert task.to(torch.device("meta")) is task
    assert {p.device.type for p in (*vgg.parameters(), *clip.parameters())} == {"meta"}


def test_pixel_loss_sees_colour_and_edges():
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert pixel_loss(photo, photo).tolist() == [0, 0]
    assert pixel_loss(photo + 0.1, photo)[1].item() == pytest.approx(0.1, rel=1e-4)
    blurred = F.avg_pool2d(photo, 3, 1, 1)
    shuffled = photo.flip(-1)
    assert (pixel_loss(blurred, photo) < pixel_loss(shuffled, photo)).all()
    noise = 0.1 * torch.sign(torch.rand(2, 3, 32, 32) - 0.5)
    assert (pixel_loss(photo + noise, photo) > 0.1).all()  # edges count beside the same L1


ALL_LOSSES = LossWeights(adversarial=1.0)
NO_LOSSES = LossWeights(**{term.name: 0.0 for term in TERMS})


def seeded_task(stylizer: Stylizer, networks, weights: LossWeights) -> StylizerTask:
    """A task whose discriminator are always the same."""
    torch.manual_seed(0)
    return StylizerTask(stylizer, networks, weights)


def test_every_loss_of_the_table_has_one_weight():
    assert sorted(dataclasses.asdict(LossWeights())) == sorted(term.name for term in TERMS)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_loss_without_weight_is_not_computed_and_changes_no_other(
    term: Term, stylizer: Stylizer, networks: dict[str, nn.Module], batch
):
    looks = set()
    networks["vgg"].register_forward_hook(lambda *_: looks.add("vgg"))
    networks["clip"].model.visual.register_forward_hook(lambda *_: looks.add("clip"))
    only = dataclasses.replace(NO_LOSSES, **{term.name: 1.0})
    alone = seeded_task(stylizer, networks, only)(batch)
    assert looks == set(term.needs) - {"discriminator"}
    every = seeded_task(stylizer, networks, ALL_LOSSES)(batch)
    assert alone == {term.name: every[term.name]}
    others = dataclasses.replace(ALL_LOSSES, **{term.name: 0.0})
    rest = StylizerTask(stylizer, networks, others)
    assert set(rest(batch)) == set(every) - {term.name}


@pytest.mark.parametrize("kind", ["free", "exact"])
def test_outputs_seek_the_score_of_pictures_and_the_discriminator_parts_them(
    kind: str, stylizer: Stylizer, networks: dict[str, nn.Module], batch
):
    """Each alone trained by the joint loss: scores of outputs rise towards 1, or the gap widens."""
    only = dataclasses.replace(NO_LOSSES, adversarial=1.0)

    def scores_after(trained: str, steps: int) -> tuple[float, float]:
        """Return the mean scores of outputs and of pictures or exact results, finest level."""
        task = seeded_task(copy.deepcopy(stylizer), networks, only)
        optimizer = torch.optim.Adam(getattr(task, trained).parameters(), 1e-3)
        for _ in range(steps):
            optimizer.zero_grad()
            task(batch)["adversarial"].backward()
            optimizer.step()
        found: list[Tensor] = []
        task.discriminator.register_forward_hook(lambda *seen: found.append(seen[2].detach()))
        task(batch)
        outputs, pictures, results = found[:3]
        if kind == "free":
            return outputs[:3].mean().item(), pictures.mean().item()
        return outputs[3:].mean().item(), results.mean().item()

    made, real = scores_after("stylizer", 0)
    assert scores_after("stylizer", 12)[0] > made + 0.1
    parted = scores_after("discriminator", 40)
    assert parted[1] - parted[0] > real - made + 0.5


def test_the_discriminators_loss_does_not_choose_the_best_weights(task: StylizerTask, batch):
    assert "adversarial" in task(batch)
    assert "adversarial" not in task.eval()(batch)


def test_a_loss_that_needs_a_missing_network_is_refused(stylizer: Stylizer):
    with pytest.raises(InputError, match="'texture' needs vgg"):
        StylizerTask(stylizer, {})
    assert StylizerTask(stylizer, {}, dataclasses.replace(NO_LOSSES, pixel=1.0)).terms


def test_a_weight_of_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="there is no loss named 'colour'"):
        select_terms(TERMS, {"pixel": 1.0, "colour": 1.0}, ())


def test_clip_looks_at_a_quarter_of_the_steps_and_is_not_trained(task: StylizerTask, batch):
    assert "directional" not in task(batch | {"seed": torch.tensor(CLIP_RESTS)})
    drawn = [torch.tensor(seed) for seed in range(40)]
    looked = ["directional" in task(batch | {"seed": seed}) for seed in drawn]
    assert 4 <= sum(looked) <= 17
    assert not any("visual" in name for name in task.state_dict())


def test_a_move_to_the_style_has_low_clip_losses(networks, batch: dict[str, Tensor]):
    """One photo four times; photos lie where it does, and the styles where the answers are."""
    clip = networks["clip"]
    photo = batch["photo"][:1].expand(4, -1, -1, -1)
    answer = torch.stack([1 - photo[0], photo[0].flip(0), photo[1] ** 3, photo[0].roll(20, -1)])
    style, source = clip.encode_image(answer), clip.encode_image(photo[:1])[0]
    others = F.normalize(torch.randn(63, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    seen = batch | {"photo": photo, "style": style, "source": source, "others": others}
    task = StylizerTask(Fixed(answer), networks)
    losses, turned = task(seen), task(seen | {"style": 2 * source - style})
    assert losses["directional"] < 0.05
    assert turned["directional"] > 1.5
    assert turned["contrastive"] > losses["contrastive"] + 1
