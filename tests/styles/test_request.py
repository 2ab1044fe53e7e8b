from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipmamba.clip import Clip, encode_prompt
from clipmamba.errors import InputError, WeightsError
from clipmamba.styles import Style, StylePrior, StyleRequest, resolve_style
from clipmamba.styles.request import list_in_one


@pytest.fixture(scope="module")
def clip(tiny_clip_folder: Path) -> Clip:
    return Clip.from_pretrained(str(tiny_clip_folder))


def resolved(request, clip, prior=None, seed=None, to_tensor=None) -> Style:
    [layer] = resolve_style(request, clip, prior, [seed], to_tensor).layers
    return layer.styles[seed]


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
        ({"style": "a.style", "templates": "a {}"}, "template has no effect without words"),
        ({"regions": [("sky", Path("a.style"))], "templates": "a {}"}, "template has no effect"),
        ({"regions": [("sky", "oil")], "templates": "a poster"}, "{}"),
        ({"regions": [("sky", [])]}, "no style"),
        ({"prompt": {"oil", "ink"}}, "not set"),
        ({"prompt": 7}, "not int"),
        ({"prompt": ["oil", None]}, "not NoneType"),
        ({"mask": "m.png", "regions": [("r.png", "oil")]}, "mask needs a style"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, word: str):
    with pytest.raises(InputError, match=word):
        StyleRequest.parse(**options)


@pytest.mark.parametrize(
    "words", [{"prompt": "oil"}, {"avoid": "oil"}, {"source": "auto"}, {"regions": {"sky": "oil"}}]
)
def test_templates_go_with_any_words(words: dict):
    request = StyleRequest.parse(style="a.style", **words, templates="a {}")
    assert {layer.templates for layer in request.layers} == {("a {}",)}


def test_a_region_mixes_prompts_and_styles():
    style = Style(torch.ones(4), "mine")
    request = StyleRequest.parse(regions={"sky": ["oil:0.7", "fresco:0.3", style]})
    [region] = request.layers
    assert region.prompts == (("oil", 0.7), ("fresco", 0.3))
    assert [(made.label, factor) for made, factor in region.styles] == [("mine", 1.0)]


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
        found = resolved(StyleRequest.parse(written), clip)
        torch.testing.assert_close(found.embedding, plain.embedding)
    assert found.clip == clip.name


def test_a_mix_leans_to_the_heavier(clip: Clip, tmp_path: Path):
    picture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    words, shown = Style.text("fresco", clip), Style.image(picture, clip)

    def to_tensor(given: object) -> Tensor:
        assert given == "wave.png"
        return picture

    even = resolved(StyleRequest.parse("fresco", "wave.png"), clip, to_tensor=to_tensor)
    assert cosine(even, words) == pytest.approx(cosine(even, shown), abs=1e-5)
    heavy = resolved(StyleRequest.parse("fresco:3", "wave.png"), clip, to_tensor=to_tensor)
    assert cosine(heavy, words) > cosine(even, words)

    file = tmp_path / "shown.style"
    shown.save(file)
    for saved in (shown, file, str(file)):
        same = resolved(StyleRequest.parse("fresco:3", style=saved), clip)
        torch.testing.assert_close(same.embedding, heavy.embedding)
    lighter = resolved(StyleRequest.parse("fresco:3", style=f"{file}:0.1"), clip)
    assert cosine(lighter, words) > cosine(heavy, words)


def test_a_seed_varies_the_words(clip: Clip):
    eye = torch.eye(16)
    prior = StylePrior(eye, torch.zeros(16), eye[:3], torch.full((3,), 0.3), clip.name)
    request = StyleRequest.parse("fresco")
    plain, one, again = (resolved(request, clip, prior, seed) for seed in (None, 5, 5))
    assert torch.equal(one.embedding, again.embedding)
    assert cosine(plain, one) < 0.999


def test_avoid_moves_away_and_source_takes_the_content_out(clip: Clip):
    plain = resolved(StyleRequest.parse("oil painting"), clip)
    away = resolved(StyleRequest.parse("oil painting", avoid="cubism"), clip)
    assert cosine(away, Style.text("cubism", clip)) < cosine(plain, Style.text("cubism", clip))
    assert cosine(away, plain) > 0.5
    assert away.embedding.norm() == pytest.approx(1, abs=1e-5)

    photo, cat = (Style.text(text, clip).embedding for text in ("photo", "photo of a cat"))
    direction = (cat - photo) / (cat - photo).norm()
    leaking = Style(Style.text("fresco", clip).embedding + 0.8 * direction, clip=clip.name)
    clean = resolved(StyleRequest.parse(style=leaking, source="a cat"), clip)
    assert (leaking.embedding - photo) @ direction > 0.1
    assert (clean.embedding - photo) @ direction < 0.05
    nothing = resolved(StyleRequest.parse("fresco", avoid="photo"), clip)  # no direction at all
    torch.testing.assert_close(nothing.embedding, Style.text("fresco", clip).embedding)


def test_templates_stand_around_the_words(clip: Clip):
    usual = resolved(StyleRequest.parse("oil"), clip)
    bare = resolved(StyleRequest.parse("oil", templates="{}"), clip)
    torch.testing.assert_close(bare.embedding, encode_prompt(clip, "oil", ["{}"])[0])
    two = resolved(StyleRequest.parse("oil", templates=["{}", "a poster of {}"]), clip)
    assert cosine(bare, usual) < 0.9999
    assert cosine(bare, two) < 0.9999


def test_a_style_of_another_clip_or_no_style_at_all_is_refused(clip: Clip, tmp_path: Path):
    for other in (Style(torch.ones(8)), Style(torch.ones(16), clip="another")):
        with pytest.raises(InputError, match="CLIP"):
            resolved(StyleRequest.parse(style=other), clip)
    with pytest.raises(WeightsError, match="missing"):
        resolved(StyleRequest.parse(style=tmp_path / "missing.style"), clip)
    with pytest.raises(InputError, match="to_tensor"):
        resolved(StyleRequest.parse(style_image="a.png"), clip)


def test_asking_needs_no_torch():
    code = (
        "import sys; from clipmamba.styles import StyleRequest; StyleRequest.parse('oil:2');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("tail", ["x", "", ".", "e5", "1e", "\n"])
def test_a_long_number_is_read_in_one_go(tail: str):  # in quadratic time this takes half an hour
    number = "1" * 300_000
    for text in (f"a:{number}{tail}", f"a:{number}.{number}{tail}", f"a {number}{tail}"):
        words = text
        with contextlib.suppress(InputError):  # a number too large to be a weight
            [(words, _)] = StyleRequest.parse(text).prompts
        assert words == text


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("ukiyo-e:0.7,watercolor:0.3", ["ukiyo-e:0.7", "watercolor:0.3"]),
        ("oil : 1, fresco:.5", ["oil : 1", "fresco:.5"]),
        ("Monet: water lilies, at noon", []),
        ("oil, fresco:2", []),
        ("oil:2", []),
    ],
)
def test_several_prompts_in_one_are_noticed(written: str, parts: list[str]):
    assert list_in_one(written) == parts


def test_layers_files_and_label_of_regions():
    request = StyleRequest.parse("oil", "wave.png", mask="m.png", regions=[("sky.png", "pastel")])
    assert [layer.mask for layer in request.layers] == ["m.png", "sky.png"]
    assert request.label == "oil + wave + pastel"
    assert [file for _, file in request.files] == ["wave.png", "m.png", "sky.png"]
    only = StyleRequest.parse(regions=[("sky.png", "pastel")])
    assert [layer.own_label for layer in only.layers] == ["pastel"]


def test_every_text_is_encoded_once_for_all_seeds(clip: Clip, monkeypatch):
    eye = torch.eye(16)
    prior = StylePrior(eye, torch.zeros(16), eye[:3], torch.full((3,), 0.3), clip.name)
    asked = []
    encode = clip.encode_text
    monkeypatch.setattr(clip, "encode_text", lambda texts: asked.append(texts) or encode(texts))
    request = StyleRequest.parse(["fresco", "oil"], avoid="cubism", source="a cat")
    style = resolve_style(request, clip, prior, [None, 1, 2])
    assert len(asked) == 6  # two prompts, avoid, source, a plain photo, and all known styles
    assert len({tuple(s.embedding.tolist()) for s in style.layers[0].styles.values()}) == 3
    alone = style.only(2)
    assert alone.seeds == (2,)
    assert torch.equal(
        alone.layers[0].styles[2].embedding, resolved(request, clip, prior, 2).embedding
    )
    with pytest.raises(InputError, match="not for 7"):
        style.only(7)


def test_resolved_styles_mix_as_values(clip: Clip):
    oil, ice = (resolve_style(StyleRequest.parse(words), clip) for words in ("oil", "ice"))
    mixed = 3 * oil + ice
    expected = resolved(StyleRequest.parse(["oil:3", "ice"]), clip)
    torch.testing.assert_close(mixed.layers[0].styles[None].embedding, expected.embedding)
    masked = resolve_style(StyleRequest.parse("oil", mask="m.png"), clip)
    with pytest.raises(InputError, match="whole picture"):
        masked + ice


def test_a_style_picture_in_a_mix_keeps_its_gradient(clip: Clip):
    picture = torch.rand(1, 3, 40, 40, requires_grad=True)
    request = StyleRequest.parse("oil", picture, avoid="cubism")
    resolved(request, clip, to_tensor=lambda given: given).embedding[0].backward()
    assert picture.grad.abs().sum() > 0
