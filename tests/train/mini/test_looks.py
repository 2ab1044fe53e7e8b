from __future__ import annotations

import random
import re
import unicodedata
from pathlib import Path

import pytest

from clipmamba.train.mini.commands import draw_evenly, everyday_prompts
from clipmamba.train.mini.looks import (
    LOOKS,
    SENTENCES,
    everyday,
    look_of,
    names,
    own_words,
    plain_meanings,
)
from clipmamba.train.mini.phrases import composed
from clipmamba.train.painters import PAINTERS
from clipmamba.train.pictures import MOVEMENTS, Picture


def style(*texts: str) -> Picture:
    return Picture(Path("x"), "style", "a caption", texts, "")


@pytest.mark.parametrize(
    ("words", "look"),
    [
        ("Impressionism, landscape", "impressionism"),
        ("Post-Impressionism, still life", "post-impressionism"),
        ("in the style of Vincent van Gogh", "van gogh"),
        ("Illustration, Manga", "manga"),
        ("Studio Ghibli, Asian", "anime"),
        ("wood engraving", "woodcut"),
        ("copperplate engraving", "engraving"),
        ("coloured pencil drawing", "crayon"),
        ("stained glass window design", "stained glass"),
        ("a quiet evening", None),
    ],
)
def test_a_picture_has_the_look_that_its_words_name(words: str, look: str | None):
    found = look_of(style("art", words))
    assert (found.name if found else None) == look
    assert look_of(Picture(Path("x"), "photo", words, (words,), "")) is None


def test_no_look_has_anothers_name():
    said: dict[str, str] = {}
    for look in LOOKS:
        for name in names(look):
            assert said.setdefault(name, look.name) == look.name, name
    assert len({look.name for look in LOOKS}) == len(LOOKS)


def test_a_painter_shows_one_look():
    for painter in PAINTERS.values():
        words = own_words(painter.prompts)
        assert words[0] == painter.prompts[0]
        picture = Picture(Path("x"), "painted", words[0], words, "")
        look = look_of(picture)
        others = {name for other in LOOKS if other is not look for name in names(other)}
        assert not {word.lower() for word in words} & others
    assert "a cartoon" not in own_words(PAINTERS["anime"].prompts)


def test_everyday_words_are_names_in_sentences():
    rng = random.Random(0)
    look = next(look for look in LOOKS if look.name == "ukiyo-e")
    said = {everyday(look, rng) for _ in range(3000)}
    assert {
        "浮世絵",
        "hokusai style",
        "japanischer holzschnitt",
        "turn it into the great wave",
    } <= said
    assert not any("浮世絵" in text and text not in names(look) for text in said)  # alone


def plain(text: str) -> str:
    """Letters and digits, without accents: how texts are compared here."""
    letters = unicodedata.normalize("NFKD", text.lower())
    return re.sub(r"[^\w]", "", "".join(c for c in letters if not unicodedata.combining(c)))


def test_everyday_prompts_are_no_training_phrases():
    prompts = everyday_prompts()
    learned = {plain(phrase) for phrase, _ in plain_meanings()}
    learned |= {
        plain(sentence.format(name))
        for look in LOOKS
        for name in names(look)
        for sentence in SENTENCES
    }
    learned |= {plain(prompt) for painter in PAINTERS.values() for prompt in painter.prompts}
    learned |= {plain(phrase) for phrase in composed(8_000, 0)}
    assert [prompt for _, prompt in prompts if plain(prompt) in learned] == []
    assert {family for family, _ in prompts} <= {look.name for look in LOOKS}
    assert len({prompt for _, prompt in prompts}) == len(prompts) >= 60
    foreign = [prompt for _, prompt in prompts if not prompt.isascii()]
    for letters in ("HANGUL", "CJK", "KATAKANA"):
        count = sum(any(letters in unicodedata.name(c, "") for c in prompt) for prompt in foreign)
        assert count >= 4, letters


def test_names_in_other_languages_mean_the_english_one():
    meant = dict(plain_meanings())
    assert meant["aquarell"] == meant["수채화"] == meant["watercolor painting"] == "watercolor"
    assert meant["in ölgemälde style"] == "oil painting"


def test_rare_looks_are_drawn_whole():
    pictures = [Picture(Path(f"{n}"), "style", "c", ("Baroque",), "baroque") for n in range(90)]
    pictures += [Picture(Path(f"m{n}"), "style", "c", ("mosaic",), "") for n in range(5)]
    pictures += [Picture(Path(f"p{n}"), "photo", "c", ("a photo",), "") for n in range(40)]
    drawn = draw_evenly(pictures, 45, seed=0)
    count = {key: sum(p.texts[0] == key for p in drawn) for key in ("Baroque", "mosaic", "a photo")}
    assert count == {"Baroque": 20, "mosaic": 5, "a photo": 20}
    assert drawn == draw_evenly(pictures, 45, seed=0)
    assert len({p.path for p in draw_evenly(pictures, 1000, seed=0)}) == 135
    assert set(MOVEMENTS) <= {look.name for look in LOOKS}
