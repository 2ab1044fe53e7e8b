from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.train.painters import PAINTERS
from clipmamba.train.stylizer.pairs import (
    SIZE,
    PairStore,
    StyleEntry,
    _paint,
    crop_square,
    painter_styles,
    write_store,
)


def test_a_store_gives_back_what_was_written(tmp_path: Path):
    rng = np.random.default_rng(0)
    styles = [StyleEntry("a", ("one", "two"), "a.png", "c"), StyleEntry("b", (), "", "b")]
    photos, results = rng.integers(0, 256, (2, 3, SIZE, SIZE, 3), np.uint8)
    pairs = zip(photos, results, [1, 0, 1], strict=True)
    write_store(tmp_path / "store", styles, pairs, 3)
    store = PairStore(tmp_path / "store")
    assert len(store) == 3
    assert np.array_equal(store.photos, photos)
    assert np.array_equal(store.results, results)
    assert store.numbers.tolist() == [1, 0, 1]
    assert store.styles == styles


def test_half_a_store_is_no_store(tmp_path: Path):
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    styles = [StyleEntry("a", (), "", "a")]

    def broken():
        yield blank, blank, 0
        raise KeyboardInterrupt

    with pytest.raises(InputError, match=r"holds no pairs.*`prepare`"):
        PairStore(tmp_path)
    write_store(tmp_path, styles, iter([(blank, blank, 0)]), 1)
    assert len(PairStore(tmp_path)) == 1
    with pytest.raises(KeyboardInterrupt):  # made anew, and killed on the way
        write_store(tmp_path, styles, broken(), 2)
    with pytest.raises(InputError, match="holds no pairs"):
        PairStore(tmp_path)
    with pytest.raises(ValueError, match="shorter"):
        write_store(tmp_path, styles, iter([(blank, blank, 0)]), 2)


def test_random_squares_lie_anywhere_in_a_picture(tmp_path: Path):
    halves = Image.new("RGB", (90, 30), "blue")
    halves.paste("red", (45, 0, 90, 30))
    halves.save(tmp_path / "wide.png")
    squares = [crop_square(tmp_path / "wide.png", 16, random.Random(n)) for n in range(40)]
    assert {square.shape for square in squares} == {(16, 16, 3)}
    blue = {int((square[8, :, 2] > 127).sum()) for square in squares}
    assert blue >= {0, 16}  # all of either half
    assert len(blue) > 3


def test_a_painted_pair_is_two_aligned_crops(tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
    noise.resize((300, 260), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    number = list(PAINTERS).index("sepia") if "sepia" in PAINTERS else 0
    job = (tmp_path / "photo.png", number, 0)
    pairs = _paint(job)
    assert len(pairs) == 2
    for photo, result, style in pairs:
        assert photo.shape == result.shape == (SIZE, SIZE, 3)
        assert style == number
        assert not np.array_equal(photo, result)
        likeness = np.corrcoef(photo.mean(-1).ravel(), result.mean(-1).ravel())[0, 1]
        assert abs(likeness) > 0.5  # the same place of the photo
    for (a, b, _), (c, d, _) in zip(pairs, _paint(job), strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)


def test_painters_are_styles_with_words():
    styles = painter_styles()
    assert [style.name for style in styles] == list(PAINTERS)
    assert all(style.texts and not style.picture for style in styles)


def test_workers_map_the_files_and_are_sent_none_of_the_pixels(prepared_folder: Path):
    store = PairStore(prepared_folder / "painters")
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert isinstance(again.photos, np.memmap)
    for name in ("photos", "results", "numbers"):
        assert np.array_equal(getattr(again, name), getattr(store, name))
    assert again.styles == store.styles
