"""Looks that people name, and the everyday words for them: beside the lists' own captions.

A look is known by words of a picture's texts. Its names stand in sentences as people type them,
its names in other languages come from `clipmamba.styles.translations`.
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
        name: For tables.
        pattern: Regular expression that a text of its pictures matches, lower case.
        words: What people call it.
        styles: Names of the known styles that it is, whose aliases and translations it has too.
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
    """Everything that a look is called, its own words first, lower case."""
    known = (word for style in look.styles for word in _known(style))
    return tuple(dict.fromkeys(word.lower() for word in (look.name, *look.words, *known)))


def look_words(name: str) -> tuple[str, ...]:
    """What a look of this name is called; a name that is no look's stands for itself."""
    look = next((look for look in LOOKS if look.name == name), None)
    return (name,) if look is None else names(look)


def look_of(picture: Picture) -> Look | None:
    """The first look that a picture's texts name; photos and objects have none."""
    if picture.kind not in ("style", "painted"):
        return None
    # a painter's first prompt is its name
    return _look(*(picture.kind == "style" and picture.texts) or (picture.caption,))


def own_words(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """A painter's prompts without those that name another look than the first one does.

    Else two looks would come to be one: "cartoon" is no name of an anime picture.
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
    """One of the look's names, in a sentence or alone; names in other letters always alone."""
    name = rng.choice(names(look))
    latin = all(ord(letter) < 0x250 for letter in name)
    return rng.choice(SENTENCES).format(name) if latin and rng.random() < 0.6 else name


def plain_meanings() -> list[tuple[str, str]]:
    """(phrase, what it means in plain English) of every look, sentence and language."""
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
