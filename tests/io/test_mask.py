from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.io import read_mask


def test_white_is_one_and_black_is_nothing(tmp_path: Path):
    mask = Image.new("L", (8, 4))
    mask.paste(255, (0, 0, 4, 4))
    for mode in ("L", "RGB", "1", "P"):
        mask.convert(mode).save(tmp_path / "mask.png")
        values = read_mask(tmp_path / "mask.png", (8, 4))
        assert values.shape == (4, 8)
        assert values.dtype == np.float32
        assert (values[:, :4] == 1).all()
        assert (values[:, 4:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_zeros_and_ones_of_a_segmentation_are_black_and_white(mode: str):
    levels = np.zeros((4, 8), np.uint16 if mode == "I;16" else np.uint8)
    levels[:, :4] = 1
    mask = Image.fromarray(levels)
    if mode == "P":
        mask = mask.convert("P")
    values = read_mask(mask, (8, 4))
    assert (values[:, :4] == 1).all()
    assert (values[:, 4:] == 0).all()
    assert (read_mask(Image.new("L", (8, 4)), (8, 4)) == 0).all()


def test_transparency_alone_is_a_mask_and_beside_grey_it_counts_too():
    mask = Image.new("RGBA", (4, 4), (9, 9, 9, 255))
    mask.paste((9, 9, 9, 0), (0, 0, 2, 4))
    assert read_mask(mask, (4, 4)).tolist() == [[0, 0, 1, 1]] * 4
    mask.paste((255, 255, 255, 255), (3, 0, 4, 4))
    values = read_mask(mask, (4, 4))[0]
    assert values[0] == 0
    assert values[2] < 0.1
    assert values[3] == 1


def test_a_mask_is_brought_to_the_photos_size():
    mask = Image.new("L", (10, 5))
    mask.paste(255, (0, 0, 5, 5))
    values = read_mask(mask, (403, 200))  # a rounded preview still fits
    assert values.shape == (200, 403)
    assert values[100, 10] == 1
    assert values[100, 390] == 0
    assert ((values > 0) & (values < 1)).any()  # soft edge


@pytest.mark.parametrize("size", [(5, 10), (12, 12)])
def test_another_shape_is_refused(size: tuple[int, int]):
    with pytest.raises(InputError, match="mask"):
        read_mask(Image.new("L", (10, 5)), size)


def test_an_unreadable_mask_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"missing\.png"):
        read_mask(tmp_path / "missing.png", (4, 4))
