"""What transparency hides does not come out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipmamba.io import to_srgb
from clipmamba.io.alpha import fill_hidden


def cut_out(hidden: tuple[int, int, int]) -> Image.Image:
    """A red disc on nothing; below the nothing lies some colour."""
    y, x = np.mgrid[:33, :50]
    disc = (y - 16) ** 2 + (x - 20) ** 2 < 100
    pixels = np.where(disc[..., None], (200, 30, 30), hidden).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray((disc * 255).astype(np.uint8)))
    return image


@pytest.mark.parametrize("hidden", [(0, 0, 0), (0, 255, 0)])
def test_hidden_colours_become_those_beside_them(hidden: tuple[int, int, int]) -> None:
    pixels, alpha = to_srgb(cut_out(hidden))
    np.testing.assert_allclose(
        pixels, np.broadcast_to([200, 30, 30], pixels.shape) / 255, atol=2e-3
    )
    assert alpha is not None
    assert alpha.getextrema() == (0, 255)


def test_visible_colours_stay_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.random((21, 34, 3), np.float32)
    opacity = generator.random((21, 34), np.float32) * (generator.random((21, 34)) < 0.5)
    filled = fill_hidden(pixels, opacity.astype(np.float32))
    np.testing.assert_array_equal(filled[opacity > 0], pixels[opacity > 0])
    assert np.isfinite(filled).all()
    assert 0 <= filled.min() <= filled.max() <= 1 + 1e-6


def test_the_nearest_visible_colour_counts_most() -> None:
    pixels = np.zeros((8, 64, 3), np.float32)
    pixels[:, :8, 0] = 1
    pixels[:, -8:, 2] = 1
    opacity = np.zeros((8, 64), np.float32)
    opacity[:, :8] = opacity[:, -8:] = 1
    filled = fill_hidden(pixels, opacity)
    assert filled[4, 10, 0] > 0.9 > 0.1 > filled[4, 10, 2]
    assert filled[4, 53, 2] > 0.9 > 0.1 > filled[4, 53, 0]


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_nothing_to_do(opacity: float) -> None:
    pixels = np.random.default_rng(0).random((5, 7, 3), np.float32)
    assert fill_hidden(pixels, np.full((5, 7), opacity, np.float32)) is pixels
