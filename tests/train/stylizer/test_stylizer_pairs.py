from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.train.painters import PAINTERS
from clipmamba.train.stylizer.pairs import (
    GRID,
    OFTEN,
    SIZE,
    PairStore,
    StyleEntry,
    StyleStore,
    StylizerBatches,
    _paint,
    load_square,
    painter_styles,
    write_store,
    write_styles,
)


@pytest.fixture
def batches(stores: list[PairStore]) -> StylizerBatches:
    # point k of style s of store w is a one-hot row at 8 w + 3 s + k
    points = [[torch.eye(16)[8 * w + 3 * s :][:3] for s in range(2)] for w in range(2)]
    # what style s of the teacher's asks for: 2 s by its picture, 2 s + 1 by words
    targets = [
        [torch.tensor([[2.0 * s], [2.0 * s + 1]]) for s in range(2)],
        [torch.empty(0, 1)] * 2,
    ]
    looks = [[4, 5], [-1, -1]]
    return StylizerBatches(
        stores, [1, 1], points, batch=8, sides=[64], seed=3, targets=targets, looks=looks
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

    with pytest.raises(InputError, match=r"holds no pairs.*`pairs`"):
        PairStore(tmp_path)
    write_store(tmp_path, styles, iter([(blank, blank, 0)]), 1)
    assert len(PairStore(tmp_path)) == 1
    with pytest.raises(KeyboardInterrupt):  # made anew, and killed on the way
        write_store(tmp_path, styles, broken(), 2)
    with pytest.raises(InputError, match="holds no pairs"):
        PairStore(tmp_path)
    with pytest.raises(ValueError, match="shorter"):
        write_store(tmp_path, styles, iter([(blank, blank, 0)]), 2)


def test_a_step_is_the_same_whenever_it_is_asked_for(batches: StylizerBatches):
    first = batches.batch(5, 0, 1)
    batches.batch(6, 0, 1)
    again = batches.batch(5, 0, 1)
    other = batches.batch(6, 0, 1)
    assert first.keys() == again.keys()
    for name in first:
        assert torch.equal(first[name], again[name]), name
    assert not torch.equal(first["photo"], other["photo"])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_batch_of_one(batches: StylizerBatches, processes: int):
    whole = batches.batch(2, 0, 1)
    parts = [batches.batch(2, process, processes) for process in range(processes)]
    for name, value in whole.items():
        if value.ndim:
            shared = torch.stack([part[name] for part in parts], dim=1).flatten(0, 1)
            assert torch.equal(shared, value), name
        else:
            assert all(torch.equal(part[name], value) for part in parts), name
    assert whole["own_style"].tolist() == [True] + [False] * 7


def test_a_batch_that_can_not_be_shared_is_refused(batches: StylizerBatches):
    for processes in (3, 8):  # uneven; one would have nothing but a photo in its own style
        with pytest.raises(InputError, match="--batch"):
            batches.batch(0, 0, processes)


def test_crops_are_aligned_and_lie_on_the_grid(batches: StylizerBatches):
    corners = set()
    for step in range(60):  # 480 crops for 169 places
        batch = batches.batch(step, 0, 1)
        assert batch["photo"].shape == (8, 3, 64, 64)
        pixels = (batch["photo"] * 255).round().long()
        columns, rows = pixels[:, 0, 0, 0], pixels[:, 1, 0, 0]
        assert (columns % GRID == 0).all()
        assert (rows % GRID == 0).all()
        assert torch.allclose(batch["result"], 1 - batch["photo"])  # cut at the same place
        corners |= set(zip(columns.tolist(), rows.tolist(), strict=True))
    places = range(0, SIZE - 64 + 1, GRID)
    assert len(corners) > 0.8 * len(places) ** 2
    assert max(corners)[0] == SIZE - 64


def test_stores_take_turns_by_their_shares(batches: StylizerBatches, stores):
    uneven = StylizerBatches(stores, [1, 3], batches.points, batch=8, sides=[64], seed=3)
    drawn = [uneven.batch(step, 0, 1) for step in range(4)]
    which = torch.cat([batch["style_id"][~batch["own_style"]] for batch in drawn]) % 2
    assert which.tolist() == [1, 0, 1, 1] * 7  # photos in their own style cost no store its turn


def test_some_styles_are_drawn_more_often(stores):
    points = [[torch.eye(16)[:1]] * 2] * 2
    drawn = []
    for often in ((), ("woodcut",)):
        batches = StylizerBatches(stores[1:], [1], points[1:], 60, [64], 3, often=often)
        drawn.append((batches.batch(0, 0, 1)["style_id"] == 1).float().mean().item())
    assert drawn[0] == pytest.approx(0.5, abs=0.15)
    assert drawn[1] == pytest.approx(OFTEN / (OFTEN + 1), abs=0.1)
    with pytest.raises(InputError, match="no pairs are of a style named tapestry"):
        StylizerBatches(stores, [1, 1], points, 8, [64], 3, often=("tapestry", "woodcut"))


def test_each_pair_has_a_point_of_its_own_style(batches: StylizerBatches, stores):
    for step in range(10):
        batch = batches.batch(step, 0, 1)
        for place in range(8):
            style, which = divmod(int(batch["style_id"][place]), 2)
            assert which == (7 * step + place - 1) % 2  # the same share of each store
            spot = int(batch["style"][place].argmax())
            assert 8 * which + 3 * style <= spot < 8 * which + 3 * style + 3


def test_pictures_and_words_ask_for_their_own_statistics(batches: StylizerBatches):
    asked = set()
    for step in range(12):
        batch = batches.batch(step, 0, 1)
        shown = batch["style_id"] % 2 == 0  # of the store of pictures
        assert torch.equal(batch["exact"], ~shown)  # painters say what they do
        assert torch.equal(batch["taught"], shown)
        for place in shown.nonzero()[:, 0].tolist():
            number, spot = int(batch["style_id"][place]) // 2, int(batch["style"][place].argmax())
            by_words = spot != 3 * number  # the first point is the picture's
            assert batch["target"][place].item() == 2 * number + by_words
            asked.add((number, by_words))
        assert batch["target"][~shown].abs().sum() == 0
        looks = [4 + n // 2 if n % 2 == 0 else -1 for n in batch["style_id"].tolist()]
        assert batch["look"].tolist() == looks
    assert len(asked) == 4


def test_style_pictures_meet_many_photos(stores, tmp_path: Path):
    styles = [StyleEntry(name, (name,), f"{name}.png", name) for name in ("a", "b", "c")]
    write_styles(tmp_path, styles)
    store = StyleStore(tmp_path, stores[1].photos)
    points = [torch.eye(3)[number][None].expand(2, -1) for number in range(3)]
    batches = StylizerBatches([store], [1], [points], batch=16, sides=[32], seed=0)
    met = set()
    for step in range(20):
        batch = batches.batch(step, 0, 1)
        assert torch.equal(batch["result"], batch["photo"])
        assert not batch["exact"].any()
        assert not batch["taught"].any()
        assert torch.equal(batch["style"].argmax(1), batch["style_id"])
        blue = batch["photo"][:, 2].flatten(1).sum(1)  # noise: which photo, and where
        met |= {*zip(batch["style_id"].tolist(), blue.tolist(), strict=True)}
    assert len(met) > 250
    with pytest.raises(InputError, match="holds no pairs"):
        StyleStore(tmp_path / "none", stores[1].photos)


def test_small_and_large_crops_take_the_same_time_in_the_end(stores):
    points = [[torch.eye(16)[:1]] * 2] * 2
    batches = StylizerBatches(stores, [1, 1], points, batch=4, sides=[8, 16], seed=0)
    sides = [batches.batch(step, 0, 1)["photo"].shape[2] for step in range(300)]
    assert set(sides) == {8, 16}
    assert sides.count(16) / 300 == pytest.approx(0.2, abs=0.07)
    shared = [batches.batch(step, 1, 2)["result"].shape[2] for step in range(20)]
    assert shared == sides[:20]  # of one step all processes have the same


def test_a_picture_without_words_is_asked_for_by_itself(stores, tmp_path: Path):
    write_styles(tmp_path, [StyleEntry("a", (), "a.png", "")])
    store = StyleStore(tmp_path, stores[1].photos)
    batches = StylizerBatches([store], [1], [[torch.eye(4)[:1]]], batch=16, sides=[32], seed=0)
    assert torch.equal(batches.batch(0, 0, 1)["style"], torch.eye(4)[:1].expand(16, -1))


def test_small_families_are_drawn_more_often(stores, tmp_path: Path):
    styles = [StyleEntry(str(n), (), f"{n}.png", "small" if n < 4 else "large") for n in range(40)]
    write_styles(tmp_path, styles)
    numbers = StyleStore(tmp_path, stores[1].photos).numbers
    assert 0.1 + 0.06 < (numbers < 4).mean() < 0.5 - 0.06  # 4 of 40; a quarter expected


def test_a_style_may_be_left_out(stores):
    points = [[torch.eye(16)[:1]] * 2] * 2
    batches = StylizerBatches(stores[1:], [1], points[1:], 60, [64], 3, without=("woodcut",))
    assert not batches.batch(0, 0, 1)["style_id"].any()
    with pytest.raises(InputError, match="no pairs are of a style named tapestry"):
        StylizerBatches(stores, [1, 1], points, 8, [64], 3, without=("tapestry",))


def test_the_middle_square_of_a_picture(tmp_path: Path):
    wide = Image.new("RGB", (90, 30), "white")
    wide.paste("red", (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    square = load_square(tmp_path / "wide.png", 16)
    assert square.shape == (16, 16, 3)
    assert (square[:, 4:-4] == [255, 0, 0]).all()  # the filter reaches over the border
    moved = {load_square(tmp_path / "wide.png", 16, random.Random(n)).tobytes() for n in range(9)}
    assert len(moved) > 5


def test_a_painted_pair_is_two_aligned_crops(tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
    noise.resize((300, 260), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    number = list(PAINTERS).index("sepia") if "sepia" in PAINTERS else 0
    job = (str(tmp_path / "photo.png"), number, 0)
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


def test_pixels_come_in_the_range_of_pictures(batches: StylizerBatches):
    batch = batches.batch(0, 0, 1)
    for name in ("photo", "result"):
        value: Tensor = batch[name]
        assert value.dtype == torch.float32
        assert 0 <= value.min() <= value.max() <= 1
