from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from clipmamba.clip import Clip, encode_prompt
from clipmamba.errors import InputError, WeightsError
from clipmamba.styles import StylePrior
from clipmamba.styles.prior import DEFAULT_FOLDER

WIDTH = 12


def pairs(count: int = 4000, noise: float = 0.0):
    """Texts, pictures = W t + b + two noisy directions, and the W, b, directions."""
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(count, WIDTH, generator=generator), dim=-1)
    weight = torch.randn(WIDTH, WIDTH, generator=generator) / 3
    bias = torch.randn(WIDTH, generator=generator) / 3
    directions = torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator)).Q.T
    amounts = torch.randn(count, 2, generator=generator) * torch.tensor([2.0, 1.0]) * noise
    return texts, texts @ weight.T + bias + amounts @ directions, weight, bias, directions


@pytest.fixture
def prior() -> StylePrior:
    texts, pictures, *_ = pairs(noise=0.3)
    return StylePrior.fit(texts, pictures, rank=2, clip_name="mini")


def test_fit_recovers_a_linear_map() -> None:
    texts, pictures, weight, bias, _ = pairs()
    prior = StylePrior.fit(texts, pictures, ridge=1e-9, rank=2)
    torch.testing.assert_close(prior.weight, weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prior.bias, bias, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prior(texts), F.normalize(pictures, dim=-1), atol=1e-5, rtol=1e-4)
    assert prior.scale.max() < 1e-4


def test_fit_is_the_ridge_minimum() -> None:
    texts, pictures, *_ = pairs(200, noise=0.5)
    ridge = 0.05
    prior = StylePrior.fit(texts, pictures, ridge=ridge, rank=0)

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        error = texts.double() @ weight.T + bias - pictures.double()
        return error.square().sum(1).mean() + ridge * weight.square().sum()

    weight = prior.weight.double().requires_grad_()
    bias = prior.bias.double().requires_grad_()
    gradients = torch.autograd.grad(loss(weight, bias), (weight, bias))
    assert max(g.abs().max() for g in gradients) < 1e-6


def test_fit_finds_the_residual_directions() -> None:
    texts, pictures, _, _, directions = pairs(20_000, noise=0.3)
    prior = StylePrior.fit(texts, pictures, ridge=1e-9, rank=3)
    torch.testing.assert_close(prior.scale, torch.tensor([0.6, 0.3, 0.0]), atol=0.01, rtol=0)
    overlap = (prior.components[:2] @ directions.T).abs()
    torch.testing.assert_close(overlap, torch.eye(2), atol=0.03, rtol=0)


def test_texts_that_pictures_share_are_looked_up() -> None:
    """A linear map can't know that pictures of some texts lie elsewhere; the table does."""
    texts, pictures, *_ = pairs(200)
    odd = torch.eye(WIDTH)[:3]
    texts = torch.cat([texts, odd.repeat_interleave(4, dim=0)])
    pictures = torch.cat([pictures, -3 * odd.repeat_interleave(4, dim=0)])
    prior = StylePrior.fit(texts, pictures, rank=2)
    assert prior.known == 3
    assert prior.counts.tolist() == [4, 4, 4]
    plain = StylePrior(prior.weight, prior.bias, prior.components, prior.scale)
    found, missed = (1 + (each(odd) * odd).sum(1) for each in (prior, plain))  # 0 where they lie
    assert (found < 0.5 * missed).all()
    torch.testing.assert_close(prior(odd, 3)[1:2], prior(odd[1:2], 3))


def test_the_most_frequent_texts_are_known() -> None:
    texts, pictures, *_ = pairs(20)
    shared = torch.eye(WIDTH)[:3].repeat_interleave(torch.tensor([2, 5, 4]), dim=0)
    texts = torch.cat([texts, shared])
    pictures = torch.cat([pictures, shared])
    prior = StylePrior.fit(texts, pictures, rank=2, most_known=2)
    assert sorted(prior.counts.tolist()) == [4, 5]
    torch.testing.assert_close(prior.texts.sum(0), torch.eye(WIDTH)[1:3].sum(0))


def test_seed(prior: StylePrior) -> None:
    texts = pairs(5)[0]
    torch.testing.assert_close(prior(texts), F.normalize(texts @ prior.weight.T + prior.bias))
    assert torch.equal(prior(texts), prior(texts))
    assert torch.equal(prior(texts, 7), prior(texts, 7))
    assert not torch.allclose(prior(texts, 7), prior(texts, 8))
    torch.testing.assert_close(prior(texts, 7)[2:3], prior(texts[2:3], 7))
    torch.testing.assert_close(prior(texts, 7).norm(dim=-1), torch.ones(5))
    state = torch.random.get_rng_state()
    prior(texts, 9)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_variants_move_along_the_components_only(prior: StylePrior) -> None:
    text = pairs(1)[0]
    mean = F.linear(text, prior.weight, prior.bias)[0]
    span = torch.cat([mean[None], prior.components])
    basis = torch.linalg.qr(span.T).Q
    variants = torch.cat([prior(text, seed) for seed in range(20)])
    outside = variants - variants @ basis @ basis.T
    assert outside.abs().max() < 1e-5
    still = StylePrior(prior.weight, prior.bias, prior.components, torch.zeros(2))
    assert torch.equal(still(text, 3), still(text))


def test_save_and_load(prior: StylePrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "prior")
    loaded = StylePrior.load(tmp_path / "prior")
    texts = pairs(3)[0]
    assert torch.equal(loaded(texts, 5), prior(texts, 5))
    assert (loaded.clip_name, loaded.rank, loaded.embed_dim) == ("mini", 2, WIDTH)


@pytest.mark.parametrize("name", ["weight", "bias", "components", "scale", "texts", "counts"])
def test_missing_tensor(prior: StylePrior, tmp_path: Path, name: str) -> None:
    prior.save(tmp_path)
    tensors = load_file(tmp_path / "prior.safetensors")
    del tensors[name]
    save_file(tensors, tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match=f"missing tensors: {name}"):
        StylePrior.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"surplus": torch.ones(1)}, "surplus"),
        ({"bias": torch.ones(3)}, "shapes"),
        ({"scale": torch.full((2,), torch.nan)}, "finite"),
        ({"scale": torch.ones(1), "components": torch.ones(1, WIDTH)}, "rank 2"),
        ({"texts": torch.ones(1, WIDTH)}, "shapes"),
        (
            {name: torch.ones(1, WIDTH) for name in ("texts", "pictures")}
            | {"counts": torch.ones(1)},
            "known 0",
        ),
    ],
)
def test_wrong_tensors(prior: StylePrior, tmp_path: Path, change, word: str) -> None:
    prior.save(tmp_path)
    tensors = load_file(tmp_path / "prior.safetensors")
    save_file({**tensors, **change}, tmp_path / "prior.safetensors")
    with pytest.raises(WeightsError, match=word):
        StylePrior.load(tmp_path)


def test_missing_files_and_bad_config(prior: StylePrior, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file .*config\.json"):
        StylePrior.load(tmp_path)
    prior.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for broken in (json.dumps({**config, "temperature": 1}), json.dumps({"rank": 2}), "[", "3"):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(WeightsError, match=r"config\.json"):
            StylePrior.load(tmp_path)


def test_belongs_to_its_clip(tiny_clip_folder: Path, tmp_path: Path) -> None:
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    eye = torch.eye(clip.embed_dim)
    parts = (eye, torch.zeros(clip.embed_dim), eye[:2], torch.ones(2))
    StylePrior(*parts, clip_name=clip.name).save(tmp_path / "ours")
    StylePrior(*parts, clip_name="mini").save(tmp_path / "theirs")
    assert StylePrior.load(tmp_path / "ours", clip=clip).clip_name == clip.name
    with pytest.raises(WeightsError, match="belongs to CLIP 'mini'"):
        StylePrior.load(tmp_path / "theirs", clip=clip)


def test_bad_input(prior: StylePrior) -> None:
    with pytest.raises(InputError, match=r"\(B, 12\)"):
        prior(torch.ones(12))
    with pytest.raises(InputError, match="both be"):
        StylePrior.fit(torch.ones(3, 4), torch.ones(3, 5))
    with pytest.raises(InputError, match="rank"):
        StylePrior.fit(torch.ones(3, 4), torch.ones(3, 4), rank=5)


def test_shipped_prior_fits_mini() -> None:
    if not DEFAULT_FOLDER.exists():
        pytest.skip("the prior is not fitted yet")
    clip = Clip.from_pretrained()
    prior = StylePrior.load(clip=clip)
    assert prior(clip.encode_text("ukiyo-e"), 1).shape == (1, clip.embed_dim)


MISSPELT = {
    "ukiyoe": "ukiyo-e",
    "impresionism": "impressionism",
    "cubizm": "cubism",
    "water color": "watercolor",
}


def test_misspelt_styles_lie_where_the_right_ones_do() -> None:
    clip = Clip.from_pretrained()
    prior = StylePrior.load(clip=clip)
    names = [*MISSPELT.values(), "baroque", "stained glass", "pencil sketch", "comic book"]
    right = prior(encode_prompt(clip, names))
    for said, meant in MISSPELT.items():
        near = (right @ prior(encode_prompt(clip, [said]))[0]).tolist()
        best = max(range(len(names)), key=near.__getitem__)
        assert names[best] == meant, (said, names[best])
        assert near[best] > 0.7, (said, near[best])


def test_the_number_of_threads_moves_no_bit() -> None:
    prior = StylePrior.load()
    texts = torch.nn.functional.normalize(
        torch.randn(3, prior.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    threads = torch.get_num_threads()
    try:
        points = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            points.append(prior(texts, seed=3))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(point, points[0]) for point in points)
    assert torch.equal(prior(texts[1:2], seed=3), points[0][1:2])  # nor does the batch


def test_familiarity_is_1_for_a_known_text_and_less_for_others() -> None:
    prior = StylePrior.load()
    assert prior.familiarity(prior.texts[5:6]) == pytest.approx(1, abs=1e-5)
    assert prior.familiarity(-prior.texts.mean(0, keepdim=True)) < 0.3
