"""Phrases for the text tower: WordNet's words and glosses, style words, captions.

WordNet (Princeton, under its own free license) is read from Debian's `wordnet-base` package.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from clipmamba.errors import InputError

# lexicographer files of things, beings, substances, places, feelings, acts and attributes
_NOUNS = {3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 17, 18, 19, 20, 25, 26, 27}
_WORD = re.compile(r"[a-z][a-z' -]{2,28}")

MEDIA = (
    "painting", "oil painting", "watercolor", "drawing", "pencil sketch", "ink drawing", "print",
    "woodcut", "etching", "engraving", "poster", "illustration", "comic", "cartoon", "mosaic",
    "fresco", "tapestry", "embroidery", "collage", "photograph", "3d render", "pixel art",
    "stained glass window", "sculpture", "icon", "mural", "graffiti", "pastel", "charcoal drawing",
)  # fmt: skip
ADJECTIVES = (
    "colorful", "dark", "bright", "gloomy", "cheerful", "warm", "cold", "golden", "blue", "red",
    "green", "purple", "pastel", "black and white", "vivid", "muted", "dramatic", "soft", "rough",
    "smooth", "abstract", "realistic", "vintage", "modern", "ancient", "dreamy", "stormy", "sunny",
    "minimalist", "ornate", "geometric", "flat", "textured", "luminous", "misty", "neon", "rusty",
)  # fmt: skip
STYLES = (
    "impressionism", "post-impressionism", "expressionism", "symbolism", "baroque", "romanticism",
    "art nouveau", "ukiyo-e", "cubism", "surrealism", "pop art", "art deco", "realism", "rococo",
    "renaissance", "pointillism", "fauvism", "bauhaus", "constructivism", "minimalism", "gothic",
    "byzantine", "futurism", "suprematism", "abstract expressionism", "naive art", "steampunk",
    "cyberpunk", "vaporwave", "anime", "manga", "low poly", "voxel", "line art", "sumi-e",
)  # fmt: skip


def wordnet(folder: Path = Path("/usr/share/wordnet")) -> Iterator[tuple[str, str]]:
    """Yield (word, gloss) of nouns and adjectives.

    Raises:
        InputError: WordNet's files are missing.
    """
    if not (folder / "data.noun").is_file():
        raise InputError(f"no WordNet in {folder}; install Debian's wordnet-base")
    for part in ("noun", "adj"):
        with (folder / f"data.{part}").open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("  "):
                    continue
                data, _, gloss = line.partition("|")
                fields = data.split()
                if part == "noun" and int(fields[1]) not in _NOUNS:
                    continue
                gloss = gloss.split(";")[0].strip()
                for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
                    word = word.split("(")[0].replace("_", " ").lower()
                    if _WORD.fullmatch(word):
                        yield word, gloss


def composed(count: int, seed: int = 0) -> list[str]:
    """Compose random phrases such as "a gloomy charcoal drawing in the style of symbolism"."""
    rng = random.Random(seed)
    forms = (
        "{a} {m}", "{s} {m}", "a {m} in the style of {s}", "{a} {s}", "a {a} {m}", "{s}, {a}",
        "a {a} {m} in the style of {s}", "{m}, {a} colours", "{s} style", "in the style of {s}",
    )  # fmt: skip
    return [
        rng.choice(forms).format(
            a=rng.choice(ADJECTIVES), m=rng.choice(MEDIA), s=rng.choice(STYLES)
        )
        for _ in range(count)
    ]


def phrase_list(captions: list[str], seed: int = 0, glosses: int = 40_000) -> list[str]:
    """Return all phrases to distill on: words, some glosses, composed phrases and captions."""
    rng = random.Random(seed)
    pairs = sorted(set(wordnet()))
    words = sorted({word for word, _ in pairs})
    explained = [f"{word}, {gloss}" for word, gloss in rng.sample(pairs, min(glosses, len(pairs)))]
    everything = {*words, *explained, *composed(8_000, seed), *captions}
    return sorted(everything)
