"""Every mark moves with what a painter does wrong or right, and not with the picture's size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

from clipmamba.evaluate import marks
from clipmamba.evaluate.metrics import faces_kept, pixels


def to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A sky, a bright house with windows, and a lawn of fine texture."""
    rng = np.random.default_rng(0)
    values = np.full((192, 256, 3), (0.45, 0.55, 0.7))
    values[120:] = np.array((0.3, 0.4, 0.2)) + rng.normal(0, 0.08, (72, 256, 3))
    values[50:150, 90:200] = (0.8, 0.75, 0.7)
    for x in range(100, 190, 30):
        values[70:100, x : x + 16] = (0.2, 0.2, 0.25)
    values += rng.normal(0, 0.004, values.shape)
    return to_image(values).filter(ImageFilter.GaussianBlur(0.7))


@pytest.fixture(scope="module")
def ground(photo: Image.Image) -> marks.Ground:
    return marks.Ground(photo)


def noise(shape: tuple[int, ...], scale: float, strength: float, seed: int = 1) -> np.ndarray:
    """Noise of one deviation, blurred."""
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=shape[:2]), scale, mode="wrap")
    return (strength * rough / rough.std())[..., None]


def test_the_photo_itself_has_no_marks(photo: Image.Image, ground: marks.Ground):
    assert marks.flecks(photo, ground) == pytest.approx(1)
    assert marks.rims(photo, ground) == pytest.approx(1)
    assert np.isnan(marks.stroke_size(photo, ground))


def test_flecks_rise_with_noise_in_the_sky_and_not_with_noise_in_the_lawn(
    photo: Image.Image, ground: marks.Ground
):
    values = pixels(photo)
    sky, lawn = values.copy(), values.copy()
    sky[:45] += noise(sky[:45].shape, 0, 0.05)
    lawn[155:] += noise(lawn[155:].shape, 0, 0.05)
    assert marks.flecks(to_image(sky), ground) > 3
    assert marks.flecks(to_image(lawn), ground) == pytest.approx(1, abs=0.1)
    smooth = photo.filter(ImageFilter.GaussianBlur(2))
    assert marks.flecks(smooth, ground) < 1


def test_a_change_of_colours_makes_no_flecks_and_no_rims(photo: Image.Image, ground: marks.Ground):
    tinted = to_image(pixels(photo) * (0.9, 0.7, 0.5) + (0.1, 0.05, 0))
    assert marks.flecks(tinted, ground) < 1.1
    assert marks.rims(tinted, ground) < 1.1


def test_rims_rise_with_halos_and_not_with_strokes(photo: Image.Image, ground: marks.Ground):
    values = pixels(photo)
    halo = values + 1.5 * (values - gaussian_filter(values, (4, 4, 0)))
    strokes = values + noise(values.shape, 2, 0.06)
    assert marks.rims(to_image(halo), ground) > 1.8
    assert marks.rims(to_image(strokes), ground) < 1.4


def test_stroke_size_follows_the_strokes(photo: Image.Image, ground: marks.Ground):
    values = pixels(photo)
    sizes = [
        marks.stroke_size(to_image(values + noise(values.shape, scale, 0.06)), ground)
        for scale in (0.5, 1, 2, 4)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]
    stronger = marks.stroke_size(to_image(values + noise(values.shape, 2, 0.09)), ground)
    assert stronger == pytest.approx(sizes[2], rel=0.1)


def test_an_enlargement_has_the_same_marks(photo: Image.Image, ground: marks.Ground):
    output = to_image(pixels(photo) + noise((192, 256), 2, 0.06))
    size = (512, 384)
    twice = marks.Ground(photo.resize(size, Image.Resampling.BICUBIC))
    large = output.resize(size, Image.Resampling.BICUBIC)
    assert marks.flecks(large, twice) == pytest.approx(marks.flecks(output, ground), rel=0.25)
    assert marks.stroke_size(large, twice) == pytest.approx(
        marks.stroke_size(output, ground), rel=0.25
    )


def test_a_style_is_measured_at_one_size(photo: Image.Image):
    own = marks.texture_at_one_size(photo, marks.Ground(photo))
    large = photo.resize((1024, 768), Image.Resampling.BICUBIC)
    assert marks.texture_at_one_size(large, marks.Ground(large)) == pytest.approx(own, rel=0.2)


def test_faces_fall_when_the_face_is_scrambled_and_not_when_the_rest_is(photo: Image.Image):
    values = pixels(photo)
    house = (90 / 256, 50 / 192, 200 / 256, 150 / 192)
    rng = np.random.default_rng(2)
    scrambled, around = values.copy(), values[::-1].copy()
    tiles = values[50:150, 90:200].reshape(10, 10, 11, 10, 3).swapaxes(1, 2).reshape(110, 10, 10, 3)
    shuffled = tiles[rng.permutation(110)].reshape(10, 11, 10, 10, 3).swapaxes(1, 2)
    scrambled[50:150, 90:200] = shuffled.reshape(100, 110, 3)
    around[50:150, 90:200] = values[50:150, 90:200]
    assert faces_kept(photo, photo, [house]) == pytest.approx(1)
    assert faces_kept(to_image(around), photo, [house]) > 0.95
    assert faces_kept(to_image(scrambled), photo, [house]) < 0.5
