from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipmamba.clip import Clip, encode_prompt
from clipmamba.errors import InputError, WeightsError
from clipmamba.styles import Style, StylePrior, StyleRequest


@pytest.fixture(scope="module")
def clip(tiny_clip_folder: Path) -> Clip:
    return Clip.from_pretrained(str(tiny_clip_folder))


def cosine(one: Style, other: Style) -> float:
    return float(one.embedding @ other.embedding)


@pytest.mark.parametrize(
    ("written", "prompts"),
    [
        ("ukiyo-e", (("ukiyo-e", 1.0),)),
        ("ukiyo-e:0.7", (("ukiyo-e", 0.7),)),
        ("ukiyo-e : .5", (("ukiyo-e", 0.5),)),
        ("Monet: water lilies", (("Monet: water lilies", 1.0),)),
        ("Monet: water lilies:2", (("Monet: water lilies", 2.0),)),
        (["oil:3", "fresco"], (("oil", 3.0), ("fresco", 1.0))),
    ],
)
def test_a_number_after_the_last_colon_is_the_weight(written, prompts):
    assert StyleRequest.parse(written).prompts == prompts


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "no style"),
        ({"prompt": []}, "no style"),
        ({"prompt": " "}, "empty"),
        ({"prompt": ["oil", ""]}, "empty"),
        ({"prompt": "oil:0"}, "above 0"),
        ({"prompt": "oil:-1"}, "avoid"),
        ({"prompt": "oil", "avoid": " "}, "avoid"),
        ({"prompt": "oil", "source": ""}, "source"),
        ({"avoid": "oil"}, "no style"),
        ({"prompt": "oil", "templates": "a poster"}, "{}"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, word: str):
    with pytest.raises(InputError, match=word):
        StyleRequest.parse(**options)


def test_the_label_names_every_ingredient(tmp_path: Path):
    style = Style(torch.ones(4), "mine")
    request = StyleRequest.parse(
        ["oil:0.5", "fresco"], [Path("a/wave.png"), torch.zeros(3, 4, 4)], ["b/old.style", style]
    )
    assert request.label == "oil + fresco + wave + picture + old + mine"
    assert StyleRequest.parse("oil", avoid="cubism").label == "oil without cubism"


def test_one_ingredient_is_itself_whatever_its_weight(clip: Clip):
    plain = Style.text("fresco", clip)
    for written in ("fresco", "fresco:0.2"):
        resolved = StyleRequest.parse(written).resolve(clip)
        torch.testing.assert_close(resolved.embedding, plain.embedding)
    assert resolved.clip == clip.name


def test_a_mix_leans_to_the_heavier(clip: Clip, tmp_path: Path):
    picture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    words, shown = Style.text("fresco", clip), Style.image(picture, clip)

    def to_tensor(given: object) -> Tensor:
        assert given == "wave.png"
        return picture

    even = StyleRequest.parse("fresco", "wave.png").resolve(clip, to_tensor=to_tensor)
    assert cosine(even, words) == pytest.approx(cosine(even, shown), abs=1e-5)
    heavy = StyleRequest.parse("fresco:3", "wave.png").resolve(clip, to_tensor=to_tensor)
    assert cosine(heavy, words) > cosine(even, words)

    file = tmp_path / "shown.style"
    shown.save(file)
    for saved in (shown, file, str(file)):
        same = StyleRequest.parse("fresco:3", style=saved).resolve(clip)
        torch.testing.assert_close(same.embedding, heavy.embedding)
    lighter = StyleRequest.parse("fresco:3", style=f"{file}:0.1").resolve(clip)
    assert cosine(lighter, words) > cosine(heavy, words)


def test_a_seed_varies_the_words(clip: Clip):
    eye = torch.eye(16)
    prior = StylePrior(eye, torch.zeros(16), eye[:3], torch.full((3,), 0.3), clip.name)
    request = StyleRequest.parse("fresco")
    plain, one, again = (request.resolve(clip, prior, seed) for seed in (None, 5, 5))
    assert torch.equal(one.embedding, again.embedding)
    assert cosine(plain, one) < 0.999


def test_avoid_moves_away_and_source_takes_the_content_out(clip: Clip):
    plain = StyleRequest.parse("oil painting").resolve(clip)
    away = StyleRequest.parse("oil painting", avoid="cubism").resolve(clip)
    assert cosine(away, Style.text("cubism", clip)) < cosine(plain, Style.text("cubism", clip))
    assert cosine(away, plain) > 0.5
    assert away.embedding.norm() == pytest.approx(1, abs=1e-5)

    photo, cat = (Style.text(text, clip).embedding for text in ("photo", "photo of a cat"))
    direction = (cat - photo) / (cat - photo).norm()
    leaking = Style(Style.text("fresco", clip).embedding + 0.8 * direction, clip=clip.name)
    clean = StyleRequest.parse(style=leaking, source="a cat").resolve(clip)
    assert (leaking.embedding - photo) @ direction > 0.1
    assert (clean.embedding - photo) @ direction < 0.05
    nothing = StyleRequest.parse("fresco", avoid="photo").resolve(clip)  # no direction at all
    torch.testing.assert_close(nothing.embedding, Style.text("fresco", clip).embedding)


def test_templates_stand_around_the_words(clip: Clip):
    usual = StyleRequest.parse("oil").resolve(clip)
    bare = StyleRequest.parse("oil", templates="{}").resolve(clip)
    torch.testing.assert_close(bare.embedding, encode_prompt(clip, "oil", ["{}"])[0])
    two = StyleRequest.parse("oil", templates=["{}", "a poster of {}"]).resolve(clip)
    assert cosine(bare, usual) < 0.9999
    assert cosine(bare, two) < 0.9999


def test_a_style_of_another_clip_or_no_style_at_all_is_refused(clip: Clip, tmp_path: Path):
    for other in (Style(torch.ones(8)), Style(torch.ones(16), clip="another")):
        with pytest.raises(InputError, match="CLIP"):
            StyleRequest.parse(style=other).resolve(clip)
    with pytest.raises(WeightsError, match="missing"):
        StyleRequest.parse(style=tmp_path / "missing.style").resolve(clip)
    with pytest.raises(InputError, match="to_tensor"):
        StyleRequest.parse(style_image="a.png").resolve(clip)


def test_asking_needs_no_torch():
    code = (
        "import sys; from clipmamba.styles import StyleRequest; StyleRequest.parse('oil:2');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
