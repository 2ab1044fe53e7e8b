from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from clipmamba.errors import WeightsError
from clipmamba.losses.vgg import (
    Moments,
    VggFeatures,
    structure_loss,
    texture_loss,
    texture_moments,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def plain_moments(features: Tensor) -> Moments:
    rows = features.flatten(2)
    return Moments(rows @ rows.transpose(1, 2) / rows.shape[2], rows.mean(2))


def test_features_are_those_of_a_plain_network(vgg_weights: Path):
    vgg = VggFeatures(vgg_weights)
    images = torch.rand(2, 3, 21, 34)
    of = {name: value.float() for name, value in load_file(vgg_weights).items()}

    def layer(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, of[f"{name}.weight"], of[f"{name}.bias"], padding=1).relu()

    x = F.conv2d(images, of["to_bgr.weight"], of["to_bgr.bias"])
    first = layer(x, "conv1_1")
    second = layer(F.max_pool2d(layer(first, "conv1_2"), 2), "conv2_1")
    third = layer(F.max_pool2d(layer(second, "conv2_2"), 2), "conv3_1")
    for found, expected in zip(vgg(images), (first, second, third), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (1, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_and_their_gradients_are_autograds_own(size, layout):
    features = torch.randn(2, 5, *size, dtype=torch.float64).contiguous(memory_format=layout)
    features.requires_grad_()
    of_gram, of_mean = torch.randn(2, 5, 5).double(), torch.randn(2, 5).double()
    results = []
    for moments in (texture_moments(features), plain_moments(features)):
        total = (moments.gram.double() * of_gram).sum() + (moments.mean.double() * of_mean).sum()
        results.append((moments, torch.autograd.grad(total, features)[0]))
    (ours, gradient), (expected, expected_gradient) = results
    torch.testing.assert_close(ours.gram.double(), expected.gram, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.mean.double(), expected.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def test_deviations_are_those_of_the_channels():
    features = 3 * torch.randn(2, 5, 12, 11) + 1
    expected = features.flatten(2).std(2, correction=0)
    torch.testing.assert_close(texture_moments(features).deviation, expected, rtol=1e-3, atol=1e-3)
    flat = texture_moments(torch.full((1, 2, 4, 4), 7.0, requires_grad=True))
    flat.deviation.sum().backward()  # no root of a rounding error below 0
    assert flat.deviation.max() < 0.1


def test_moments_can_be_taken_for_some_pictures():
    features = torch.randn(4, 3, 5, 5)
    some = texture_moments(features).rows(slice(1, 3))
    assert all(map(torch.equal, some, texture_moments(features[1:3])))


def test_texture_is_0_for_itself_wherever_things_are(vgg_weights: Path):
    vgg = VggFeatures(vgg_weights)
    picture = torch.rand(2, 3, 32, 32)

    def texture(output: Tensor, style: Tensor, reduction="none") -> Tensor:
        moments = [[texture_moments(each) for each in vgg(images)] for images in (output, style)]
        return texture_loss(*moments, reduction)

    assert texture(picture, picture).abs().max() == 0
    blurred = F.avg_pool2d(picture, 3, 1, 1)
    near = texture(0.9 * picture + 0.1 * blurred, picture)
    far = texture(blurred, picture)
    moved = texture(picture.roll((8, 12), (2, 3)), picture)
    assert (moved < near).all()
    assert (near > 0).all()
    assert (near < far).all()
    torch.testing.assert_close(texture(blurred, picture, "mean"), far.mean())
    torch.testing.assert_close(texture(blurred, picture, "sum"), far.sum())


def test_each_statistic_is_measured_in_its_own_size():
    """Nothing in place of the style costs 1 for each of them, however large they are."""
    style = texture_moments(40 + 50 * torch.rand(1, 6, 9, 9))
    nothing = Moments(torch.zeros(1, 6, 6), torch.zeros(1, 6))
    assert texture_loss([nothing], [style]).item() == pytest.approx(1, abs=0.01)
    assert texture_loss([nothing] * 2, [style] * 2).item() == pytest.approx(1, abs=0.01)


def test_structure_is_the_distance_after_instance_normalization():
    output, photo = (2 * torch.randn(3, 7, 11, 6) + 1 for _ in range(2))

    def structure(a: Tensor, b: Tensor) -> Tensor:
        return structure_loss(a, texture_moments(a), b, texture_moments(b))

    expected = F.instance_norm(output) - F.instance_norm(photo)
    expected = expected.square().mean((1, 2, 3))
    torch.testing.assert_close(structure(output, photo), expected, rtol=1e-3, atol=1e-3)
    assert structure(5 * photo + 3, photo).abs().max() < 1e-3  # brightness and contrast are free
    torch.testing.assert_close(structure(-photo, photo), torch.full((3,), 4.0), rtol=1e-3, atol=0)
    output.requires_grad_()
    structure(output, photo).sum().backward()
    assert output.grad.abs().amax((1, 2, 3)).min() > 0


def test_bf16_maps_give_moments_in_float32(vgg_weights: Path):
    features = torch.rand(2, 16, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = texture_moments(features.bfloat16())
    wide = texture_moments(features)
    assert narrow.gram.dtype == narrow.mean.dtype == torch.float32
    for a, b in zip(narrow, wide, strict=True):
        assert (a - b).square().mean().sqrt() < 1e-2 * b.square().mean().sqrt()


def broken(file: Path, vgg_weights: Path) -> None:
    file.write_bytes(vgg_weights.read_bytes()[:500])


def without_a_layer(file: Path, vgg_weights: Path) -> None:
    tensors = load_file(vgg_weights)
    tensors.pop("conv2_2.bias")
    save_file(tensors, file)


def of_another_shape(file: Path, vgg_weights: Path) -> None:
    save_file(load_file(vgg_weights) | {"conv1_1.bias": torch.zeros(7)}, file)


@pytest.mark.parametrize("spoil", [broken, without_a_layer, of_another_shape, None])
def test_wrong_weights_are_one_line(spoil, vgg_weights: Path, tmp_path: Path):
    file = tmp_path / "other.safetensors"
    if spoil:
        spoil(file, vgg_weights)
    with pytest.raises(WeightsError, match=str(file)) as caught:
        VggFeatures(file)
    assert "\n" not in str(caught.value)
