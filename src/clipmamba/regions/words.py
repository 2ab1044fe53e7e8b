"""The words that are found without a segmenter. This module does not load torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from clipmamba.errors import InputError

SKY, FACE, PERSON, BACKGROUND = "sky", "face", "person", "background"
OFFLINE = (SKY, FACE, PERSON, BACKGROUND)
PACKAGES = {FACE: ("mtcnn", "joblib"), PERSON: ("mtcnn", "joblib", "cv2")}
PACKAGES[BACKGROUND] = PACKAGES[PERSON]

_ARTICLES = ("the", "a", "an", "every", "all")
_MEANT = {"skies": SKY, "faces": FACE, "people": PERSON, "persons": PERSON}


def canonical(words: str) -> str:
    """The offline word that is meant ("the faces" is "face"), or else the words themselves."""
    plain = words.lower().split()
    while len(plain) > 1 and plain[0] in _ARTICLES:
        plain = plain[1:]
    text = " ".join(plain)
    return _MEANT.get(text, text)


def check_words(asked: Iterable[str], *, segmenter: bool) -> None:
    """Refuse words that can't be found, before anything is loaded.

    Args:
        asked: What to look for.
        segmenter: Whether there is a segmenter, which takes any words.

    Raises:
        InputError: One can't be found, or a package is missing.
    """
    for words in asked:
        word = canonical(words)
        if segmenter:
            continue
        if word not in OFFLINE:
            raise InputError(
                f"can't find {words!r}, and no file has that name: the parts are "
                f"{', '.join(OFFLINE[:-1])} and {OFFLINE[-1]}; other words need a segmenter, such "
                "as --segmenter CIDAS/clipseg-rd64-refined, or segmenter= of stylize()"
            )
        for package in PACKAGES.get(word, ()):
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"finding {word!r} needs more packages: pip install 'clipmamba[regions]'"
                )
