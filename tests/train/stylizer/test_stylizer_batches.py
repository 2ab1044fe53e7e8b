from __future__ import annotations

import dataclasses
import functools
import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.styles import Style, StylePrior
from clipmamba.train.mini.looks import look_words
from clipmamba.train.pictures import chosen_by_look, draw_by_look, read_pictures
from clipmamba.train.stylizer import batches
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.prepared import Prepared, prepare

SHAPES = {
    "photo": (6, 3, 64, 64), "style": (6, 16), "stroke": (6,), "picture": (4, 3, 256, 256),
    "picture_key": (4,), "face": (4, 4), "result": (2, 3, 64, 64), "seed": (), "weights": (2,),
    "others": (63, 16), "source": (16,),
}  # fmt: skip


@pytest.fixture
def make(data: Path, prepared: Prepared):
    def make(**options) -> StylizerBatches:
        defaults = {"batch": 6, "sides": (64,), "strokes": (0.5, 5.0), "exact": 2, "seed": 3}
        return StylizerBatches(data, prepared, **(defaults | options))

    return make


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in SHAPES)


def test_a_step_is_the_same_whenever_it_is_asked_for(make):
    batch = make().batch(5, 0, 1)
    assert {name: tuple(value.shape) for name, value in batch.items()} == SHAPES
    assert same(batch, make().batch(5, 0, 1))
    for other in (make().batch(6, 0, 1), make(seed=4).batch(5, 0, 1)):
        assert not same(batch, other)
    for name in ("photo", "picture", "result"):
        assert 0 <= batch[name].min() < batch[name].max() <= 1
    torch.testing.assert_close(batch["style"].norm(dim=1), torch.ones(6))


def test_exact_results_belong_to_their_photo_at_every_size_of_strokes(make):
    """The pairs' results are negatives, so that each pixel must be the negative of its own."""
    for step in range(12):
        batch = make(sides=(64, 256)).batch(step, 0, 1)
        torch.testing.assert_close(batch["photo"][4:], 1 - batch["result"], rtol=0, atol=0.01)


def test_strokes_of_exact_pairs_have_the_size_that_is_asked_for(make):
    """Red counts the columns of a pair: its slope says how much a pair was enlarged."""
    asked = set()
    for step in range(40):
        batch = make(sides=(64, 128, 256), exact=1).batch(step, 0, 1)
        red = batch["photo"][-1, 0] * 255
        side = batch["photo"].shape[-1]
        enlarged = (side - 16) / (red[:, -8] - red[:, 8]).mean().item()
        stroke = batch["stroke"][-1].item()
        assert enlarged == pytest.approx(stroke, rel=0.1)
        free = batch["stroke"][0].item()
        assert torch.equal(batch["stroke"][:-1], batch["stroke"][:1].expand(5))
        if side / 256 < free < side / 16:  # a pair has 256 pixels, and shows 16 at least
            assert stroke == pytest.approx(free, rel=0.05)
        asked.add(free)
    assert min(asked) < 0.7
    assert max(asked) > 2


def test_smaller_crops_see_strokes_in_proportion_smaller(make):
    source = make(sides=(64, 256), exact=0, batch=1)
    seen: dict[int, list[float]] = {64: [], 256: []}
    for step in range(300):
        batch = source.batch(step, 0, 1)
        seen[batch["photo"].shape[-1]].append(batch["stroke"][0].item())
    assert 4 < max(seen[256]) <= 5
    assert 1 < max(seen[64]) <= 5 / 4 + 1e-6
    assert all(min(values) == pytest.approx(0.5, abs=0.15) for values in seen.values())
    middle = sum(map(math.log, seen[64])) / len(seen[64])
    assert middle == pytest.approx(math.log(0.5 * 1.25) / 2, abs=0.1)  # even in its logarithm


def test_small_and_large_crops_take_the_same_time_in_the_end(make):
    source = make(sides=(64, 128), exact=0, batch=1)
    sides = [source.batch(step, 0, 1)["photo"].shape[-1] for step in range(200)]
    assert sides.count(64) / sides.count(128) == pytest.approx(4, rel=0.5)


def test_points_are_those_of_the_pictures(make, prepared: Prepared):
    for step in range(5):
        batch = make().batch(step, 0, 1)
        cosine = batch["style"] @ prepared.points.float().flatten(0, 1).T
        painted = batch["style"] @ prepared.painted.T
        assert (cosine[:4].amax(1) > 0.95).all()
        assert (painted[4:].amax(1) > 0.95).all()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batch_evenly_and_differ(make, processes: int):
    source = make(batch=12)
    shares = [source.batch(4, process, processes) for process in range(processes)]
    assert {len(share["photo"]) for share in shares} == {12 // processes}
    assert sum(len(share["result"]) for share in shares) == 2
    assert sum(len(share["picture"]) for share in shares) == 10
    assert not torch.equal(shares[0]["photo"], shares[1]["photo"])
    counts = torch.tensor([[len(s["picture"]), len(s["result"])] for s in shares])
    weights = torch.stack([share["weights"] for share in shares])
    torch.testing.assert_close(weights, processes * counts / counts.sum(0))
    assert torch.equal(source.batch(4, 0, 1)["weights"], torch.ones(2))


@pytest.mark.parametrize(
    ("batch", "exact", "processes"), [(6, 2, 4), (4, 4, 1), (4, 3, 2), (4, 5, 1), (2, 1, 2)]
)
def test_a_batch_that_can_not_be_shared_is_refused(make, batch, exact, processes):
    with pytest.raises(InputError, match=r"--batch or --exact"):
        make(batch=batch, exact=exact).batch(0, 0, processes)


def test_what_can_not_be_drawn_is_refused_at_once(make, data, prepared, tmp_path):
    for sides in ((64, 100), (56,)):
        with pytest.raises(InputError, match="--side must be a multiple of 8"):
            make(sides=sides)
    arguments = {"batch": 6, "sides": (64,), "strokes": (0.5, 5.0), "exact": 2, "seed": 3}
    without = dataclasses.replace(prepared, painters=None)
    with pytest.raises(InputError, match="--exact needs exact pairs"):
        StylizerBatches(data, without, **arguments)
    with pytest.raises(InputError, match=r"lacks 18 prepared pictures, such as .*png"):
        StylizerBatches(tmp_path, prepared, **arguments)


def test_some_points_are_means_of_pictures_of_one_look(data: Path, prepared: Prepared):
    """Pictures of look 0 lie at the first axis or the second, those of no look at the third."""
    axes = torch.eye(16)
    rows = [n % 2 if n < 6 else 2 for n in range(8)]
    seen = dataclasses.replace(
        prepared,
        points=axes[rows][:, None].expand(-1, 2, -1),
        looks=torch.tensor([0] * 6 + [-1] * 2),
        shares=torch.full((8,), 1 / 8),
    )
    source = StylizerBatches(data, seen, 8, (64,), (0.5, 5.0), exact=0, seed=0)
    points = torch.cat([source.batch(step, 0, 1)["style"] for step in range(40)])
    between = (points[:, :2].amin(1) > 0.2).float().mean().item()
    assert 0.08 < between < 0.25  # a mean of two or more of 3/4 of the pictures, not all alike
    assert (
        points[:, 2:]
        .norm(dim=1)
        .sub(1)
        .abs()
        .lt(0.05)
        .logical_or(points[:, 2:].norm(dim=1) < 0.2)
        .all()
    )  # those of no look stay alone


def test_words_for_a_look_ask_for_its_pictures_and_those_for_a_painter_for_its_results(
    data: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "BLUR", 0.0)
    looks = torch.arange(len(prepared.styles)) % 3 - 1  # the first look has no words
    meant = torch.tensor([1, 1, -1, -2])
    words = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    spoken = dataclasses.replace(prepared, looks=looks, words=words, meant=meant)
    source = StylizerBatches(data, spoken, 6, (64,), (1.0, 1.0), 2, 3, words=1.0)
    seen = set()
    for step in range(30):
        for point in source.batch(step, 0, 1)["style"]:
            seen.add(next((row for row in range(4) if torch.allclose(point, words[row])), None))
    assert seen == {0, 1, 2, 3, None}
    points = torch.cat([source.batch(step, 0, 1)["style"][-2:] for step in range(30)])
    assert torch.cdist(points, words[2:]).amin(1).max() < 1e-3
    unspoken = StylizerBatches(data, spoken, 6, (64,), (1.0, 1.0), 2, 3, words=0.0)
    points = torch.cat([unspoken.batch(step, 0, 1)["style"] for step in range(30)])
    assert torch.cdist(points, words).amin() > 1e-3


def test_looks_have_words_equally_often_whatever_the_shares_of_their_pictures(
    data: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "BLUR", 0.0)
    monkeypatch.setattr(batches, "open_picture", functools.cache(batches.open_picture))
    looks = torch.arange(len(prepared.styles)) % 2
    shares = torch.where(looks == 0, 0.95, 0.05)
    spoken = dataclasses.replace(
        prepared,
        looks=looks,
        words=torch.eye(16)[:2],
        meant=torch.arange(2),
        shares=shares / sum(shares),
    )
    source = StylizerBatches(data, spoken, 8, (64,), (1.0, 1.0), 0, 3, words=1.0)
    points = torch.cat([source.batch(step, 0, 1)["style"] for step in range(25)])
    assert 70 < points[:, 0].sum() < 130  # of 200; 190 by the shares
    assert points[:, :2].sum() == pytest.approx(200)


def test_pictures_without_a_look_never_get_the_words_for_a_painter(prepared: Prepared, data: Path):
    """Both are counted below 0."""
    looks = torch.full((len(prepared.styles),), -1)
    words = torch.eye(16)[:1]
    spoken = dataclasses.replace(prepared, looks=looks, words=words, meant=torch.tensor([-1]))
    source = StylizerBatches(data, spoken, 6, (64,), (1.0, 1.0), 0, 3, words=1.0)
    batches = [source.batch(step, 0, 1) for step in range(4)]
    assert not any((batch["style"] @ words.T > 0.9).any() for batch in batches)
    assert len({key for batch in batches for key in batch["picture_key"].tolist()}) > 1
    assert spoken.firsts() == []


def test_words_mean_the_first_picture_of_their_look(prepared: Prepared):
    looks = torch.arange(len(prepared.styles)) % 4 - 1
    meant = torch.tensor([2, 1, 1, -1, -2])
    assert dataclasses.replace(prepared, looks=looks, meant=meant).firsts() == [2, 3]


def test_words_that_mean_a_look_and_a_painter_are_reported(
    data: Path, prepared: Prepared, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "clipmamba")
    words = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    words[3] = words[0]  # stored words have half precision
    looks = torch.zeros(len(prepared.styles), dtype=torch.int64)
    spoken = dataclasses.replace(
        prepared, looks=looks, words=words.half().float(), meant=torch.tensor([0, 0, -1, -2])
    )

    def reported(exact: int = 2, painters: tuple[str, ...] = (), words: float = 1.0) -> str:
        caplog.clear()
        StylizerBatches(
            data, spoken, 6, (64,), (1.0, 1.0), exact, 3, painters=painters, words=words
        )
        return caplog.text

    assert "exact pairs by woodcut, so" in reported()
    assert "exact pairs by woodcut, so" in reported(painters=("woodcut",))
    for silent in ({"painters": ("mosaic",)}, {"exact": 0}, {"words": 0.0}):
        assert not reported(**silent)


def test_anchors_are_where_the_words_for_each_look_and_painter_lie(prepared: Prepared):
    words = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    meant = torch.tensor([0, -2, 0, -1, 1])  # the painters are those of mosaics and woodcuts
    spoken = dataclasses.replace(prepared, words=words, meant=meant)
    looks = [(words[0] + words[2]) / 2, words[4]]
    every = torch.stack([words[1], words[3], *looks])
    torch.testing.assert_close(spoken.anchors(), every)
    torch.testing.assert_close(spoken.anchors(["woodcut"]), every[[0, 2, 3]])
    torch.testing.assert_close(spoken.anchors([]), every[2:])


def test_anchors_without_words_are_refused(prepared: Prepared):
    with pytest.raises(InputError, match="--prior"):
        prepared.anchors()


def test_words_lie_where_the_prior_says(
    data: Path, prepared_folder: Path, tiny_clip_folder: Path, tmp_path: Path
):
    pictures = read_pictures(data)
    styles = [picture for picture in pictures if picture.kind == "style"]
    drawn = list(zip(styles, ("mosaic", "mosaic", ""), strict=False))
    photos = [picture for picture in pictures if picture.kind == "photo"]
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    generator = torch.Generator().manual_seed(0)
    rows = [F.normalize(torch.randn(40, 16, generator=generator), dim=1) for _ in range(2)]
    prior = StylePrior.fit(*rows, rank=0, clip_name=clip.name)
    shutil.copytree(prepared_folder / "painters", tmp_path / "painters")
    prepare(data, drawn, photos, clip, tmp_path, prior)
    made = Prepared.load(tmp_path)
    assert made.meant.unique().tolist() == [-2, -1, 0]  # the painters of mosaics and woodcuts
    names = look_words("mosaic")
    assert len(names) > 3
    expected = torch.stack([Style.text(name, clip, prior).embedding for name in names])
    torch.testing.assert_close(made.words[made.meant == 0], expected, rtol=0, atol=1e-3)

    prepare(data, drawn, photos, clip, tmp_path, prior, {"mosaic": "mosaic"})
    painted = Prepared.load(tmp_path)
    assert painted.meant.unique().tolist() == [-2, -1]
    mosaic = -1 - [style.name for style in painted.painters.styles].index("mosaic")
    own = (made.meant == mosaic).sum()
    assert (painted.meant == mosaic).sum() == own + len(names)
    of_mosaics, others = made.looks == 0, made.looks != 0
    ratio = painted.shares / made.shares
    assert (ratio[of_mosaics].mean() / ratio[others].mean()).item() == pytest.approx(0.3, 1e-3)
    with pytest.raises(InputError, match="no look 'fresco'; known are mosaic"):
        prepare(data, drawn, photos, clip, tmp_path, prior, {"fresco": "mosaic"})
    with pytest.raises(InputError, match="no painter 'fresco'; known are mosaic, woodcut"):
        prepare(data, drawn, photos, clip, tmp_path, prior, {"mosaic": "fresco"})


def test_a_list_chooses_the_pictures(data: Path, tmp_path: Path):
    styles = [picture for picture in read_pictures(data) if picture.kind == "style"]
    learned, held_out = styles[:3], "nowhere.png"
    rows = [("a look", learned[0].path.name), ("another", learned[2].path.name), ("x", held_out)]
    listed = tmp_path / "chosen.csv"
    listed.write_text("look,file\n" + "".join(f"{look},style/{name}\n" for look, name in rows))
    chosen = chosen_by_look(learned, listed)
    assert chosen == [(learned[0], "a look"), (learned[2], "another")]
    listed.write_text("look,file\nx,nowhere.png\n")
    with pytest.raises(InputError, match="no picture that may be trained on"):
        chosen_by_look(learned, listed)
    listed.write_text("file\n1.png\n")
    with pytest.raises(InputError, match="needs the columns look, file"):
        chosen_by_look(learned, listed)


def test_the_number_of_styles_grows(data: Path, prepared: Prepared, monkeypatch):
    """A style's point is the axis of its row, so that the points say which styles were drawn."""
    monkeypatch.setattr(batches, "FIRST", 2)
    monkeypatch.setattr(batches, "BLUR", 0.0)
    monkeypatch.setattr(batches, "MIXED", 0.0)
    points = torch.eye(16)[:8][:, None].expand(-1, 2, -1)
    looks = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1])
    grown = dataclasses.replace(prepared, points=points, looks=looks)
    source = StylizerBatches(data, grown, 8, (64,), (1.0, 1.0), 0, 3, double_every=20)

    def seen(steps: range) -> set[int]:
        drawn = torch.cat([source.batch(step, 0, 1)["style"] for step in steps])
        return set(drawn.argmax(1).tolist())

    first, later = seen(range(3)), seen(range(20, 23))
    assert len(first) == 2
    assert len(later) == 4
    assert first < later
    assert len({looks[row].item() for row in later}) == 4  # one of each look comes first
    assert seen(range(100, 130)) == set(range(8))


def test_exact_pairs_are_those_of_the_named_painters(
    make, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "BLUR", 0.0)
    store = prepared.painters
    assert [style.name for style in store.styles] == ["mosaic", "woodcut"]
    for painters, numbers in ((("woodcut",), {1}), ((), {0, 1}), (("mosaic", "woodcut"), {0, 1})):
        source = make(painters=painters)
        points = torch.cat([source.batch(step, 0, 1)["style"][4:] for step in range(15)])
        rows = torch.cdist(points, prepared.painted).argmin(1)
        assert {int(store.numbers[row]) for row in rows} == numbers
    with pytest.raises(InputError, match="no exact pairs by 'etching'; the painters are mosaic"):
        make(painters=("etching",))
    monkeypatch.setattr(store, "numbers", 0 * store.numbers)
    with pytest.raises(InputError, match="no exact pairs by woodcut are prepared"):
        make(painters=("woodcut",))


def test_words_for_a_look_have_its_first_picture_as_their_target(
    data: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    opened = []
    reading = batches.open_picture
    monkeypatch.setattr(batches, "open_picture", lambda path: opened.append(path) or reading(path))
    count = len(prepared.styles)
    words = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    spoken = dataclasses.replace(
        prepared, looks=torch.arange(count) % 2, words=words, meant=torch.tensor([0, 0, 1])
    )
    for double_every in (0, 500):
        source = StylizerBatches(data, spoken, 4, (64,), (1.0, 1.0), 0, 3, double_every, words=1.0)
        for step in range(10):
            source.batch(step, 0, 1)
    shown = {path for path in opened if path.name in {Path(n).name for n in prepared.styles}}
    assert shown == {data / prepared.styles[0], data / prepared.styles[1]}


def test_black_bars_of_style_pictures_are_neither_embedded_nor_shown(
    data: Path, tiny_clip_folder: Path, tmp_path: Path
):
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    made = []
    for name in ("cropped", "barred"):
        folder = shutil.copytree(data, tmp_path / name)
        pictures = [picture for picture in read_pictures(folder) if not picture.held_out]
        styles = [picture for picture in pictures if picture.kind == "style"]
        for style in styles:
            with Image.open(style.path) as image:  # the two lines beside a bar go with it
                changed = ImageOps.expand(image, 7) if name == "barred" else ImageOps.crop(image, 2)
            changed.save(style.path)
        output = folder / "prepared"
        drawn = draw_by_look(styles, 8, 0)
        prepare(folder, drawn, [p for p in pictures if p.kind == "photo"], clip, output)
        prepared = Prepared.load(output)
        source = StylizerBatches(folder, prepared, 4, (64,), (1.0, 1.0), exact=0, seed=3)
        made.append((prepared.points, source.batch(0, 0, 1)["picture"]))
    for cropped, barred in zip(*made, strict=True):
        assert torch.equal(cropped, barred)


def test_a_face_is_where_the_batch_says(make, prepared: Prepared, monkeypatch):
    """Every photo is gray, with a red square in place of a face."""
    box = (0.25, 0.25, 0.5, 0.5)  # left, top, right, bottom
    photo = Image.new("RGB", (96, 72), "gray")
    photo.paste("red", (24, 18, 48, 36))
    with_faces = dataclasses.replace(prepared, faces=torch.tensor([[0.0, *box], [3.0, *box]]))
    monkeypatch.setattr(batches, "open_picture", lambda path: photo)
    found = 0
    for step in range(20):
        source = make()
        source.prepared = with_faces
        batch = source.batch(step, 0, 1)
        for crop, face in zip(batch["photo"], batch["face"].tolist(), strict=False):
            if not any(face):
                continue
            found += 1
            left, top, right, bottom = map(round, face)
            assert (right - left) * 3 == pytest.approx((bottom - top) * 4, abs=6)  # 24 × 18
            red = crop[0] - crop[1] > 0.4
            inside = torch.zeros_like(red)
            inside[top:bottom, left:right] = True
            assert (red == inside).float().mean() > 0.93
            assert red.sum() > 0.8 * inside.sum() > 0
    assert found == pytest.approx(batches.FACES * 20 * 4, abs=10)


def test_without_faces_no_photo_has_one(make):
    assert not make().batch(0, 0, 1)["face"].any()
