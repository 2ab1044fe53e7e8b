"""How much of the photo's colors a style keeps by default, and whether it has blocks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.styles import KNOWN_STYLES, Style, StylePrior, StyleRequest, resolve_style
from clipmamba.styles.traits import SHARE, Traits


@pytest.fixture(scope="module")
def mini() -> tuple[Clip, StylePrior]:
    clip = Clip.from_pretrained()
    return clip, StylePrior.load(clip=clip)


@pytest.mark.parametrize("known", KNOWN_STYLES, ids=lambda known: known.name)
def test_each_known_style_keeps_its_share_under_all_its_names(known, tiny_clip_folder: Path):
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    shares = {Style.text(name, clip).photo_color for name in (known.name, *known.aliases)}
    assert shares == {0.0 if known.palette else SHARE}


@pytest.mark.parametrize(
    "words",
    ["a watercolor of a harbor", "old oil painting", "disney cartoon", "marvel comic",
     "crayon drawing by a child", "chalk pastels", "monet garden", "8-bit game"],
)  # fmt: skip
def test_words_for_a_technique_keep_most_of_the_photos_colors(words: str, mini):
    assert Style.text(words, *mini).photo_color > 0.9 * SHARE


@pytest.mark.parametrize(
    "words",
    ["like a van gogh painting", "oil painting in the style of van gogh", "klimt", "hokusai wave",
     "warhol soup cans", "film noir", "old polaroid", "cyberpunk neon", "the scream"],
)  # fmt: skip
def test_words_for_a_palette_keep_none(words: str, mini):
    assert Style.text(words, *mini).photo_color < 0.1 * SHARE


@pytest.mark.parametrize(
    ("words", "blocks"),
    [("pixel art", True), ("8-bit", True), ("retro video game", True), ("Pixelkunst", True),
     ("16 bit sprite", True), ("pixar", False), ("low poly", False),
     ("mosaic", False), ("cross stitch", False), ("lego", False), ("anime", False)],
)  # fmt: skip
def test_words_for_pixel_art_have_blocks(words: str, blocks: bool, mini):
    assert Style.text(words, *mini).has_blocks == blocks


@pytest.mark.parametrize(
    ("weights", "blocks"),
    [((0.6, 0.2, 0.4), True), ((0.3, 0.2, 0.1), True), ((0.29, 0.2, 0.1), False)],
)
def test_a_mix_has_blocks_if_half_of_it_has_in_any_order(weights, blocks: bool, mini):
    words = ("pixel art", "ukiyo-e", "woodcut")
    parts = [weight * Style.text(text, *mini) for text, weight in zip(words, weights, strict=True)]
    for a, b, c in itertools.permutations(parts):
        assert (a + b + c).has_blocks == blocks


def test_a_style_that_points_away_has_no_traits(mini):
    assert (-1 * Style.text("pixel art", *mini)).traits == (0, 0)


def test_a_seed_and_the_way_of_asking_do_not_change_it(mini):
    clip, prior = mini
    words = "loose watercolour sketch"
    share = Style.text(words, clip, prior).photo_color
    assert Style.text(words, clip, prior, seed=4).photo_color == share
    request = StyleRequest.parse(words, avoid="cubism", source="a harbor")
    [layer] = resolve_style(request, clip, prior, [None, 7]).layers
    assert {style.photo_color for style in layer.styles.values()} == {share}


def test_words_that_are_no_style_to_paint_in_are_not_compared(tiny_clip_folder: Path, monkeypatch):
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    read, encode = [], clip.encode_text
    monkeypatch.setattr(clip, "encode_text", lambda texts: read.extend(texts) or encode(texts))
    resolve_style(StyleRequest.parse("fresco", avoid="tar", source="a cat"), clip)
    assert "photo of a cat" in read
    assert "ukiyo-e" not in read
    assert "hokusai" not in read


def test_pictures_bring_their_own_colors_and_a_mix_has_the_mean(tiny_clip_folder: Path):
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    picture, words = Style.image(torch.rand(3, 32, 32), clip), Style.text("watercolor", clip)
    assert picture.photo_color == 0
    mixed = 0.25 * words + 0.75 * picture
    assert mixed.photo_color == pytest.approx(0.25 * SHARE)
    assert (0.5 * words).photo_color == SHARE


def two_techniques_and_a_palette() -> list[Style]:
    return [
        Style(torch.randn(8, generator=torch.Generator().manual_seed(number)), photo_color=share)
        for number, share in enumerate((SHARE, SHARE, 0.0))
    ]


def test_the_order_of_a_mix_does_not_matter_and_subtracted_styles_have_no_share():
    parts = two_techniques_and_a_palette()
    for a, b, c in itertools.permutations(parts):
        for mixed in ((a + b) + c, a + (b + c)):
            assert mixed.photo_color == pytest.approx(2 / 3 * SHARE)
    technique, _, palette = parts
    assert (palette + -0.5 * technique).photo_color == 0
    assert (technique + -0.5 * palette).photo_color == SHARE


def test_a_saved_mix_mixes_on(tmp_path: Path):
    parts = two_techniques_and_a_palette()
    (parts[0] + parts[1]).save(tmp_path / "mix.safetensors")
    mixed = Style.load(tmp_path / "mix.safetensors") + parts[2]
    assert mixed.photo_color == pytest.approx(2 / 3 * SHARE)


def test_it_is_saved_and_older_files_have_none(tmp_path: Path):
    style = Style(torch.ones(4), "watercolor", photo_color=SHARE, pixelated=0.9)
    style.save(tmp_path / "new.safetensors")
    assert Style.load(tmp_path / "new.safetensors").traits == (SHARE, 0.9)
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = {
            name: v for name, v in file.metadata().items() if name not in style.traits._fields
        }
    save_file({"embedding": style.embedding}, tmp_path / "old.safetensors", metadata)
    assert Style.load(tmp_path / "old.safetensors").traits == (0, 0)


@pytest.mark.parametrize("name", Traits._fields)
def test_they_are_shares(name: str):
    with pytest.raises(InputError, match=f"{name} must be from 0 to 1"):
        Style(torch.ones(4), **{name: 1.5})
