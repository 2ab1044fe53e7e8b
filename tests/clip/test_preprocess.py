"""Our tensor transform against open_clip's own, on real pictures at several sizes.

open_clip resizes 8-bit Pillow pictures, which rounds to 1/255 = 3.9e-3 after each of two passes;
no float transform can be nearer than that in every pixel. So we compare
- pixels with Pillow's own resampler on float channels, the same filter without rounding: 1e-3;
- pixels with open_clip's 8-bit transform: 1.2e-3 on average, 1.6 levels at most;
- embeddings with those of open_clip's 8-bit transform: 1e-3 in every number.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from PIL.Image import Resampling
from skimage import data

from clipmamba.clip import Clip, preprocess

module = importlib.import_module("clipmamba.clip.preprocess")  # not the function of that name
SIZES = [(512, 512), (400, 600), (333, 217), (1024, 700), (97, 150), (160, 160), (64, 48)]
MODES = ["shortest", "squash", "longest"]


def picture(height: int, width: int) -> Image.Image:
    source = Image.fromarray(data.astronaut() if height >= width else data.coffee())
    return source.crop((20, 10, 20 + min(width, 380), 10 + min(height, 380))).resize(
        (width, height), Resampling.LANCZOS
    )


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def theirs_in_float(image: Image.Image, size: int, mode: str, interpolation: str) -> torch.Tensor:
    """open_clip's transform with Pillow's two passes on float channels, each clipped."""
    cfg = PreprocessCfg(
        size=size, mean=(0,) * 3, std=(1,) * 3, interpolation=interpolation, resize_mode=mode
    )
    resize, *crop = image_transform_v2(cfg, is_train=False).transforms
    crop = [t for t in crop if "Crop" in type(t).__name__]
    planes = []
    for band in image.split():
        width, height = resize(band).size
        plane = np.asarray(band, dtype=np.float32)
        for box in ((width, band.height), (width, height)):
            plane = Image.fromarray(plane).resize(box, getattr(Resampling, interpolation.upper()))
            plane = np.clip(np.asarray(plane), 0, 255)
        final = Image.fromarray(plane)
        for step in crop:
            final = step(final)
        planes.append(np.asarray(final) / 255)
    return torch.from_numpy(np.stack(planes))[None]


def theirs(image: Image.Image, size: int, mode: str, interpolation: str) -> torch.Tensor:
    cfg = PreprocessCfg(
        size=size, mean=(0,) * 3, std=(1,) * 3, interpolation=interpolation, resize_mode=mode
    )
    return image_transform_v2(cfg, is_train=False)(image)[None]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_agree(height: int, width: int, mode: str, interpolation: str) -> None:
    image = picture(height, width)
    ours = preprocess(
        to_tensor(image), 160, mean=(0,) * 3, std=(1,) * 3,
        interpolation=interpolation, resize_mode=mode,
    )  # fmt: skip
    exact = theirs_in_float(image, 160, mode, interpolation)
    assert ours.shape == exact.shape == (1, 3, 160, 160)
    assert (ours - exact).abs().max() < 1e-3
    rounded = theirs(image, 160, mode, interpolation)
    assert (ours - rounded).abs().mean() < 1.2e-3
    assert (ours - rounded).abs().max() < 1.6 / 255


def test_not_square() -> None:
    image = picture(333, 217)
    cfg = PreprocessCfg(size=(96, 160), mean=(0,) * 3, std=(1,) * 3)
    rounded = image_transform_v2(cfg, is_train=False)(image)[None]
    ours = preprocess(to_tensor(image), (96, 160), mean=(0,) * 3, std=(1,) * 3)
    assert ours.shape == (1, 3, 96, 160)
    assert (ours - rounded).abs().mean() < 1.2e-3


def test_normalises_and_pads() -> None:
    wide = torch.ones(1, 3, 10, 20)
    x = preprocess(
        wide, 20, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.1), resize_mode="longest", fill_color=51
    )
    torch.testing.assert_close(x[0, :, 10, 10], torch.tensor([1.0, 2.4, 7.0]))
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([-0.6, -0.8, -1.0]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sides", [(1, 600), (600, 1), (1, 16384), (3, 2999), (1, 1000), (700, 31)])
def test_thin_pictures_cost_no_more_than_others(mode: str, sides: tuple[int, int], monkeypatch):
    largest = 0
    interpolate = F.interpolate

    def measured(x: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        nonlocal largest
        result = interpolate(x, *arguments, **options)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", measured)
    ramp = torch.linspace(0, 1, max(sides))  # grey where the middle is
    images = ramp.reshape(1, 1, *((-1, 1) if sides[0] > sides[1] else (1, -1))).expand(1, 3, *sides)
    result = preprocess(images, 160, mean=(0,) * 3, std=(1,) * 3, resize_mode=mode)
    assert result.shape == (1, 3, 160, 160)
    assert largest < 3 * 160 * 160 * 30
    if mode == "shortest":
        assert (result.mean() - 0.5).abs() < 0.01
    if mode == "longest":
        assert result.amax() > 0.9  # something is seen, between the padding


@pytest.mark.parametrize(("height", "width"), [(300, 6000), (5003, 251), (200, 1801)])
@pytest.mark.parametrize("size", [160, (96, 160)])
def test_the_middle_of_a_long_picture_is_what_it_was(
    height: int, width: int, size, monkeypatch
) -> None:
    image = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(image, (height, width), mode="bicubic").clamp(0, 1)
    ours = preprocess(image, size, mean=(0,) * 3, std=(1,) * 3)
    monkeypatch.setattr(module, "_without_far_ends", lambda images, _: images)
    expected = preprocess(image, size, mean=(0,) * 3, std=(1,) * 3)
    assert (ours - expected).abs().mean() < 0.02


def test_unknown_options() -> None:
    for options in ({"resize_mode": "stretch"}, {"interpolation": "nearest"}):
        with pytest.raises(ValueError, match="must be one of"):
            preprocess(torch.rand(1, 3, 8, 8), 4, mean=(0,) * 3, std=(1,) * 3, **options)


@pytest.mark.parametrize("mode", MODES)
def test_embeddings_agree(mode: str, write_clip, tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "tiny", resize_mode=mode)
    clip = Clip.from_pretrained(str(folder))
    transform = image_transform_v2(
        PreprocessCfg(**{"size": clip.image_size, "mode": "RGB", **clip._preprocess_config}),
        is_train=False,
    )
    for height, width in SIZES:
        image = picture(height, width)
        with torch.no_grad():
            plain = clip.model.encode_image(transform(image)[None], normalize=True)
            ours = clip.encode_image(to_tensor(image))
        assert (plain - ours).abs().max() < 1e-3
