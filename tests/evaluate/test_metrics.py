from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFilter, ImageOps

from clipmamba.evaluate import metrics


def to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


@pytest.fixture
def scene() -> Image.Image:
    """Soft colour patches with edges and a little noise, as a photo has."""
    rng = np.random.default_rng(0)
    patches = rng.uniform(0.1, 0.9, (12, 16, 3))
    values = np.kron(patches, np.ones((16, 16, 1))) + rng.normal(0, 0.02, (192, 256, 3))
    return to_image(values).filter(ImageFilter.GaussianBlur(1.5))


def test_a_blur_loses_edges_and_keeps_the_layout(scene: Image.Image):
    blurred = scene.filter(ImageFilter.GaussianBlur(4))
    assert metrics.edge_similarity(scene, scene) == pytest.approx(1, abs=1e-6)
    assert metrics.edge_similarity(blurred, scene) < 0.7
    assert metrics.layout_similarity(blurred, scene) > 0.95


def test_another_picture_keeps_neither(scene: Image.Image):
    other = ImageChops.offset(scene, 72, 56)
    assert metrics.edge_similarity(other, scene) < 0.5
    assert metrics.layout_similarity(other, scene) < 0.5
    assert metrics.layout_similarity(ImageOps.invert(scene), scene) == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize("period", metrics.GRID_PERIODS)
def test_a_grid_shows_at_its_period(scene: Image.Image, period: int):
    stripes = 0.08 * (np.arange(256) % period == 0)[None, :, None]
    marked = to_image(metrics.pixels(scene) + stripes)
    assert metrics.grid_energy(marked) > 1.5 * metrics.grid_energy(scene)


def test_noise_is_no_grid(scene: Image.Image):
    rng = np.random.default_rng(1)
    noisy = to_image(metrics.pixels(scene) + rng.normal(0, 0.08, (192, 256, 3)))
    assert 0.6 < metrics.grid_energy(noisy) < 1.6
    with pytest.raises(ValueError, match="64 px"):
        metrics.grid_energy(scene.resize((50, 200)))


def test_palettes_differ_by_colour_and_not_by_place(scene: Image.Image):
    own = np.stack([metrics.palette(scene)])
    assert own.sum() == pytest.approx(1, abs=1e-5)
    assert metrics.palette_distance(ImageOps.mirror(scene), own) < 0.05
    sepia = ImageOps.colorize(scene.convert("L"), "#2b1a0b", "#f0dfbf")
    assert metrics.palette_distance(sepia, own) > 0.4


def test_diversity_is_how_far_pictures_lie_apart(scene: Image.Image):
    black, white = (Image.new("RGB", (64, 64), colour) for colour in ("black", "white"))
    assert metrics.diversity([scene, scene]) == 0
    assert metrics.diversity([black, white]) == pytest.approx(1)
    assert metrics.diversity([black, white, white]) == pytest.approx(2 / 3)
    assert metrics.diversity([scene]) == 0


def test_clipped_colours_count_and_white_paper_does_not():
    assert metrics.saturated(Image.new("RGB", (8, 8), "white")) == 0
    assert metrics.saturated(Image.new("RGB", (8, 8), (120, 130, 90))) == 0
    assert metrics.saturated(Image.new("RGB", (8, 8), "black")) == 1
    assert metrics.saturated(Image.new("RGB", (8, 8), (255, 40, 40))) == 1
