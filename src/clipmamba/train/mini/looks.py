"""Everyday names of looks, to train on beside the captions of the picture lists.

A picture's look is found by words in its texts. Its names are put into sentences that people type;
names in other languages come from `clipmamba.styles.translations`.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from clipmamba.styles.known import KNOWN_STYLES
from clipmamba.styles.translations import TRANSLATIONS
from clipmamba.train.pictures import Picture

SENTENCES = (
    "{}", "{} style", "{} look", "in {} style", "turn it into {}", "make this {}", "{} effect",
    "as {}", "{} art", "a {} version of my photo", "{} filter",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A look.

    Attributes:
        name: Name for tables.
        pattern: Regular expression that is found in a text, in lower case, of its pictures.
        words: Names that people use.
        styles: Names of the corresponding known styles, whose aliases and translations it shares.
    """

    name: str
    pattern: str
    words: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()


_FILE = files("clipmamba.train.mini") / "looks.toml"

LOOKS = tuple(
    Look(row["name"], row["pattern"], tuple(row.get("words", ())), tuple(row.get("styles", ())))
    for row in tomllib.loads(_FILE.read_text(encoding="utf-8"))["look"]
)


@functools.cache
def _known(name: str) -> tuple[str, ...]:
    style = next(style for style in KNOWN_STYLES if style.name == name)
    return (style.name, *style.aliases, *TRANSLATIONS.get(name, ()))


@functools.cache
def names(look: Look) -> tuple[str, ...]:
    """Return all names of a look in lower case, its own words first."""
    known = (word for style in look.styles for word in _known(style))
    return tuple(dict.fromkeys(word.lower() for word in (look.name, *look.words, *known)))


def look_words(name: str) -> tuple[str, ...]:
    """Return the names of the look with this name; an unknown name stands for itself."""
    look = next((look for look in LOOKS if look.name == name), None)
    return (name,) if look is None else names(look)


def look_of(picture: Picture) -> Look | None:
    """Return the first look that a picture's texts name; photos and objects have none."""
    if picture.kind not in ("style", "painted"):
        return None
    # a painter's first prompt is its name
    return _look(*(picture.kind == "style" and picture.texts) or (picture.caption,))


def own_words(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Return a painter's prompts without those that name another look than the first one.

    Otherwise two looks would merge: "cartoon" is not a name of an anime picture.
    """
    own = _look(prompts[0])
    return tuple(
        prompt
        for prompt in prompts
        if (_named().get(prompt.lower()) or _look(prompt) or own) is own
    )


@functools.cache
def _named() -> dict[str, Look]:
    return {name: look for look in LOOKS for name in names(look)}


def _look(*texts: str) -> Look | None:
    found = (k for k in LOOKS if any(re.search(k.pattern, text.lower()) for text in texts))
    return next(found, None)


def everyday(look: Look, rng: random.Random) -> str:
    """Draw a name of the look, in a sentence or alone; non-Latin names are always alone."""
    name = rng.choice(names(look))
    latin = all(ord(letter) < 0x250 for letter in name)
    return rng.choice(SENTENCES).format(name) if latin and rng.random() < 0.6 else name


def plain_meanings() -> list[tuple[str, str]]:
    """Return (phrase, its meaning in plain English) for every look, sentence and language."""
    pairs = []
    for style in KNOWN_STYLES:
        for word in (*style.aliases, *TRANSLATIONS.get(style.name, ())):
            pairs.append((word.lower(), style.name))
            if all(ord(letter) < 0x250 for letter in word):
                pairs += [(form.format(word.lower()), style.name) for form in SENTENCES[1:5]]
    for look in LOOKS:
        meant = look.styles[0] if look.styles else look.name
        for word in (look.name, *look.words):
            pairs += [(form.format(word), f"{word}, {meant}") for form in SENTENCES]
    return list(dict(pairs).items())
