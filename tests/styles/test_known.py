from __future__ import annotations

import subprocess
import sys

import pytest

from clipmamba.errors import InputError
from clipmamba.evaluate.sheet import PROMPTS
from clipmamba.styles import KNOWN_STYLES, find_style, lookup_style, search_styles, suggest_styles
from clipmamba.styles.known import misspelt
from clipmamba.styles.translations import TRANSLATIONS


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("ukiyoe", "ukiyo-e"),
        ("Ukiyo-E", "ukiyo-e"),
        ("Japanese woodblock print", "ukiyo-e"),
        ("watercolour", "watercolor"),
        ("  Pixel-Art ", "pixel art"),
        ("Art Déco", "art deco"),
        ("art deco style", "art deco"),
        ("bande dessinee", "comic book"),
        ("AQUARELL", "watercolor"),
        ("acuarela", "watercolor"),
        ("水彩画", "watercolor"),
        ("수채화 스타일", "watercolor"),
        ("Olgemalde", "oil painting"),
        ("Kubismus-Stil", "cubism"),
        ("noir et blanc", "black and white photograph"),
        ("浮世絵", "ukiyo-e"),
        ("浮世絵風", "ukiyo-e"),
        ("우키요에", "ukiyo-e"),
        ("アニメ風", "anime"),
        ("像素风格", "pixel art"),
        ("Витраж", "stained glass"),
        ("فسيفساء", "mosaic"),
        ("karakalem", "pencil sketch"),
        ("disegno a matita", "pencil sketch"),
    ],
)
def test_names_aliases_and_spellings(word: str, name: str) -> None:
    assert find_style(word).name == name


def test_did_you_mean() -> None:
    with pytest.raises(InputError, match="did you mean 'impressionism'"):
        find_style("impresionism")
    with pytest.raises(InputError, match="no known style 'qwxz'; see"):
        find_style("qwxz")
    assert suggest_styles("cubisn") == ["cubism"]
    assert lookup_style("a cat on the moon") is None
    assert lookup_style("") is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("impresionism", "impressionism"),
        ("Cubsim", "cubism"),
        ("ukioe", "ukiyo-e"),
        ("pixle art", "pixel art"),
        ("stained glas window", "stained glass"),
        ("watercolr style", "watercolor"),
        *((word, None) for word in ("ukiyoe", "glass", "impressionist oil painting", "my cat")),
        *((prompt, None) for prompt in PROMPTS),
    ],
)
def test_a_slip_of_the_pen_is_told_from_words_of_ones_own(word: str, meant: str | None) -> None:
    assert misspelt(word) == meant


def test_no_word_means_two_styles() -> None:
    for style in KNOWN_STYLES:
        for word in (style.name, *style.aliases, *TRANSLATIONS[style.name]):
            assert find_style(word) is style, word
    assert set(TRANSLATIONS) == {style.name for style in KNOWN_STYLES}
    assert len({style.name for style in KNOWN_STYLES}) == len(KNOWN_STYLES) >= 60


def test_a_closing_style_alone_is_no_style():
    assert lookup_style("style") is None
    assert lookup_style("風") is None
    assert lookup_style("台風") is None


def test_the_list_loads_no_torch() -> None:
    code = "import sys; from clipmamba.styles import find_style; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_word_finds_styles_by_name_alias_and_family():
    assert "ukiyo-e" in [style.name for style in search_styles("Ukiyo")]
    assert [style.name for style in search_styles("tenebrism")] == ["baroque"]
    assert {style.family for style in search_styles("drawing")} >= {"drawing"}
    assert search_styles("zzz") == []
