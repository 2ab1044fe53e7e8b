from __future__ import annotations

from pathlib import Path

import pytest

from clipmamba.errors import InputError
from clipmamba.train.mini import phrases
from clipmamba.train.mini.phrases import composed, phrase_list, wordnet

NOUNS = """\
  1 This is the licence.
00001740 06 n 02 oil_painting 0 Canvas 0 000 | a picture made with oil; "he sold it"
00002137 11 n 01 explosion 0 000 | a loud event
"""
ADJECTIVES = "00003553 00 s 01 misty(a) 0 000 | filled with mist\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "data.adj").write_text(ADJECTIVES)
    return tmp_path


def test_words_and_glosses_are_read(folder: Path):
    assert list(wordnet(folder)) == [
        ("oil painting", "a picture made with oil"),
        ("canvas", "a picture made with oil"),
        ("misty", "filled with mist"),  # and no explosion: an event is no look
    ]


def test_no_wordnet_says_what_to_install(tmp_path: Path):
    with pytest.raises(InputError, match="wordnet-base"):
        list(wordnet(tmp_path))


def test_composed_phrases_are_the_seeds():
    assert composed(50, 1) == composed(50, 1)
    assert composed(50, 1) != composed(50, 2)
    assert not any("{" in phrase for phrase in composed(500))


def test_the_list_has_every_source_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(phrases, "wordnet", lambda: wordnet(folder))
    listed = phrase_list(["a caption", "canvas"], glosses=2)
    assert listed == phrase_list(["a caption", "canvas"], glosses=2)
    assert len(listed) == len(set(listed))
    assert {"oil painting", "canvas", "misty", "a caption"} <= set(listed)
    assert (
        sum(
            phrase.endswith((", a picture made with oil", ", filled with mist"))
            for phrase in listed
        )
        == 2
    )
