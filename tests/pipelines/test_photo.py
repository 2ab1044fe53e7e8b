"""Pictures and masks as users of numpy, torch and Pillow have them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.pipelines.photo import Mask, Photo

HEIGHT, WIDTH = 6, 8


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def encoded() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {
    "image": lambda: Image.fromarray(pixels()),
    "bytes": encoded,
    "file": lambda: io.BytesIO(encoded()),
    "uint8": pixels,
    "uint16": lambda: pixels().astype(np.uint16) * 257,
    "float16": lambda: (pixels() / 255).astype(np.float16),
    "float64": lambda: pixels() / 255,
    "fortran order": lambda: np.asfortranarray(pixels()),
    "tensor": lambda: torch.from_numpy(pixels() / np.float32(255)).permute(2, 0, 1),
    "bfloat16": lambda: torch.from_numpy(pixels() / 255).permute(2, 0, 1).bfloat16(),
    "batch": lambda: torch.from_numpy(pixels() / 255).permute(2, 0, 1)[None],
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_opens_to_the_same_tensor_and_comes_back(kind: str) -> None:
    source = PICTURES[kind]()
    photo = Photo.open(source)
    assert (photo.size, photo.tensor.dtype) == ((WIDTH, HEIGHT), torch.float32)
    expected = torch.from_numpy(pixels()).permute(2, 0, 1)[None] / 255
    tolerance = 4e-3 if kind == "bfloat16" else 1e-3
    torch.testing.assert_close(photo.tensor, expected, atol=tolerance, rtol=0)
    same, other = photo.give_back(photo.tensor), photo.give_back(1 - photo.tensor)
    smaller = photo.give_back(photo.tensor[..., :4, :5])
    if kind in ("image", "bytes", "file"):
        np.testing.assert_array_equal(np.asarray(same), pixels())
        np.testing.assert_array_equal(np.asarray(other), 255 - pixels())
        assert smaller.size == (5, 4)
        return
    for result in (same, other, smaller):
        assert (type(result), result.dtype) == (type(source), source.dtype)
    assert (np.asarray(same.float()) if isinstance(same, torch.Tensor) else same).tolist() == (
        source.float() if isinstance(source, torch.Tensor) else source
    ).tolist()
    assert same is not source
    assert {4, 5} < {*smaller.shape}


@pytest.mark.parametrize("wrong", [None, 3, "missing.png", [1], np.zeros((4, 4)), b"no picture"])
def test_what_is_no_picture_is_refused(wrong) -> None:
    with pytest.raises(InputError) as caught:
        Photo.open(wrong)
    assert "\n" not in str(caught.value)


SHAPES = [(1, 1), (1, 8), (8, 1), (6, 8)]
_NUMPY = {
    "bool": lambda white: white,
    "uint8": lambda white: np.uint8(255) * white,
    "uint16": lambda white: np.uint16(65535) * white,
    "float16": lambda white: white.astype(np.float16),
    "float32": lambda white: white.astype(np.float32),
    "float64": lambda white: white.astype(np.float64),
    **{
        f"{kind} of 0 and 1": lambda white, kind=kind: white.astype(kind)
        for kind in ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint64")
    },
}


@pytest.mark.parametrize("wrap", ["numpy", "torch", "numpy with channel", "torch with channel"])
@pytest.mark.parametrize("kind", _NUMPY)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_of_any_type_says_the_same(shape, kind: str, wrap: str) -> None:
    white = np.zeros(shape, np.bool_)
    white[shape[0] // 2 :, shape[1] // 2 :] = True
    source = _NUMPY[kind](white)
    if wrap == "numpy with channel":
        source = source[..., None]
    elif wrap.startswith("torch"):
        source = torch.from_numpy(source)
        source = source[None, None] if "channel" in wrap else source
    area = Mask(source).fit(shape[::-1])
    assert area[0, 0].tolist() == white.astype(float).tolist()


def test_a_bfloat16_mask() -> None:
    area = Mask(torch.tensor([[0.0, 1.0], [0.5, 1.0]]).bfloat16()).fit((2, 2))
    assert area[0, 0].tolist() == [[0, 1], [pytest.approx(0.5, abs=0.01), 1]]


@pytest.mark.parametrize("wrong", [np.arange(6).reshape(2, 3), np.zeros((2, 3, 4, 5), np.uint8)])
def test_a_mask_that_may_mean_anything_is_refused(wrong) -> None:
    with pytest.raises(InputError):
        Mask(wrong)


def test_a_mask_of_another_shape_is_named(tmp_path) -> None:
    Image.new("L", (10, 5)).save(tmp_path / "sky.png")
    with pytest.raises(InputError, match=r"mask .*sky\.png is 10x5"):
        Mask(tmp_path / "sky.png").fit((5, 10))
