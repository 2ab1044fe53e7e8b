"""What is evaluated on what: style families, prompts and how pictures are chosen.

None of the prompts stands in the training's phrases, and photos and references are held out from
all training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmamba.errors import InputError


@dataclass(frozen=True)
class Family:
    """A style that real pictures show.

    Attributes:
        name: For tables.
        words: Regular expression that the picture's style words match.
        prompts: What a person would ask for; evaluated.
    """

    name: str
    words: str
    prompts: tuple[str, ...] = ()


PHOTOGRAPH = "photograph"  # the family of untouched photos; nobody asks for it

FAMILIES: tuple[Family, ...] = (
    Family(
        "impressionism",
        r"^impressionism",
        ("a canvas by an impressionist master", "plein-air impressionism, sunlight"),
    ),
    Family(
        "post-impressionism",
        r"^post-impressionism",
        ("painted the way the post-impressionists did", "van Gogh's swirling brushwork"),
    ),
    Family(
        "expressionism",
        r"^(german )?expressionism",
        ("raw expressionist colours", "a violent expressionist canvas"),
    ),
    Family(
        "baroque",
        r"baroque",
        ("a baroque master's canvas", "Caravaggio-like darkness and candlelight"),
    ),
    Family(
        "romanticism",
        r"^(romanticism|symbolism)",
        ("a romantic era canvas", "a symbolist dream painting"),
    ),
    Family(
        "art nouveau",
        r"art nouveau",
        ("an art nouveau lithographed poster", "Mucha's art nouveau ornament"),
    ),
    Family(
        "ukiyo-e",
        r"ukiyo|woodblock",
        ("a woodblock print by Hokusai", "an Edo period ukiyo-e landscape"),
    ),
    Family(
        "cubism",
        r"cubis",
        ("a cubist canvas of broken planes", "analytic cubism by Braque"),
    ),
    Family(
        "pointillism",
        r"pointillis|divisionis|neo-impressionism|seurat|signac",
        ("dots of paint by Seurat", "pointillist dabs of pure colour"),
    ),
    Family(
        "watercolor",
        r"watercolo",
        ("a loose watercolour wash", "aquarelle on rough paper"),
    ),
    Family(
        "line drawing",
        r"black line pencil sketch|sketch and study",
        ("a quick graphite drawing", "a line sketch on white paper"),
    ),
    Family(
        "engraving",
        r"engraving|etching|aquatint|woodcut|linocut",
        ("a copperplate engraving", "an old woodcut illustration"),
    ),
    Family(
        "comic",
        r"comic|manga",
        ("a page of a superhero comic", "manga panel with ink lines"),
    ),
    Family(
        "cartoon",
        r"cartoon|animation",
        ("a flat children's cartoon", "a cel from a cartoon film"),
    ),
)

OTHER_PROMPTS = ("stained glass of a cathedral", "tesserae of a Roman mosaic", "8-bit pixel sprite")
"""Styles with too few real pictures for a judge; measured in all other columns."""


@dataclass(frozen=True)
class Case:
    """A prompt, and the family it asks for; "" where the judge knows none."""

    prompt: str
    family: str


CASES: tuple[Case, ...] = (
    *(Case(prompt, family.name) for family in FAMILIES for prompt in family.prompts),
    *(Case(prompt, "") for prompt in OTHER_PROMPTS),
)


def family_of(style_words: str) -> str:
    """The first family whose words fit, or ""."""
    words = style_words.lower()
    return next((f.name for f in FAMILIES if re.search(f.words, words)), "")


def choose(paths: Iterable[Path], count: int) -> list[Path]:
    """The same files whatever their order: those with the smallest hash of their name."""
    return sorted(paths, key=lambda path: hashlib.blake2b(path.name.encode()).hexdigest())[:count]


def share_out(paths: Sequence[Path], cases: int) -> list[Path]:
    """One reference picture for each of a family's prompts, different ones as far as they go.

    Raises:
        InputError: There is no picture.
    """
    if not paths:
        raise InputError("every family of styles needs a held-out picture; see docs/evaluate.md")
    return [paths[number % len(paths)] for number in range(cases)]
