"""The evaluation protocol: style families, their wordings, and the photos.

No wording occurs in the training's phrases or captions, and no photo is trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Family:
    """A style family with real pictures.

    Attributes:
        name: Name in tables.
        words: Regular expression for the style words of its pictures.
        prompts: Wordings that people type, for the table.
        trial: Other wordings, for trial networks, so that no choice depends on the table's.
        gray: Whether black-and-white pictures belong to it.
        calm: Whether its pictures keep flat areas flat, so that flecks there are a fault.
    """

    name: str
    words: str
    prompts: tuple[str, ...]
    trial: tuple[str, str]
    gray: bool = False
    calm: bool = False


PHOTOGRAPH = "photograph"  # the family of untouched photos, which is never requested

FAMILIES: tuple[Family, ...] = (
    Family(
        "impressionism",
        r"^impressionism",
        (
            "like a monet",
            "monet water lilies painting",
            "in the manner of Renoir",
            "French impressionist canvas",
            "soft impressionist brush strokes",
            "make it look like an impressionist painted it outdoors",
            "plein-air impressionism, sunlight on leaves",
            "an oil painting with the short broken strokes of Pissarro and Sisley",
        ),
        ("a canvas by an impressionist master", "painted like Claude Monet would"),
    ),
    Family(
        "post-impressionism",
        r"^post-impressionism",
        (
            "like a van gogh painting",
            "starry night style swirls",
            "van gogh brush strokes",
            "in the style of Paul Cézanne's landscapes",
            "Gauguin in Tahiti",
            "painted the way the post-impressionists did",
            "thick swirling paint as in Vincent's wheat fields",
            "turn my photo into a painting by Vincent van Gogh, with bold colours",
        ),
        ("vincent's swirling brushwork", "a Cézanne-like canvas"),
    ),
    Family(
        "expressionism",
        r"^(german )?expressionism",
        (
            "like the scream by munch",
            "kirchner painting",
            "Die Brücke style",
            "raw expressionist colours",
            "a violent expressionist canvas",
            "wild distorted colors, like Edvard Munch",
            "Egon Schiele and Kirchner, harsh and angular",
            "an early 1900s German painting with anxious shapes and unnatural colours",
        ),
        ("an angst-ridden Munch painting", "expressionist, jagged and loud"),
    ),
    Family(
        "baroque",
        r"baroque",
        (
            "like a rembrandt portrait",
            "caravaggio lighting",
            "a baroque master's canvas",
            "17th century old master",
            "Vermeer style oil",
            "dark background old painting with candle light",
            "dramatic chiaroscuro as Caravaggio painted it",
            "make it look like a Dutch painting from the 1600s hanging in a museum",
        ),
        ("Caravaggio-like darkness and candlelight", "an oil by Velázquez"),
    ),
    Family(
        "art nouveau",
        r"art nouveau",
        (
            "mucha poster",
            "alphonse mucha style",
            "klimt gold",
            "in the style of Klimt's The Kiss",
            "Paris 1900 poster with flowing lines",
            "an art nouveau lithographed poster",
            "Jugendstil advertisement, curved lines and flowers",
            "decorative Belle Époque panel with whiplash curves and muted flat colours",
        ),
        ("Mucha's ornament", "art nouveau decoration around 1900"),
    ),
    Family(
        "ukiyo-e",
        r"ukiyo|woodblock",
        (
            "hokusai wave style",
            "japanese wood block",
            "a woodblock print by Hiroshige",
            "old japanese art",
            "Edo period print",
            "an Edo period ukiyo-e landscape",
            "great wave off kanagawa look",
            "traditional Japanese print with flat colours and fine black outlines",
        ),
        ("a woodblock print by Hokusai", "Utamaro print, old Japan"),
        calm=True,
    ),
    Family(
        "cubism",
        r"cubis",
        (
            "picasso style",
            "like a picasso painting",
            "cubist portrait",
            "Juan Gris still life",
            "a cubist canvas of broken planes",
            "split into geometric facets like Braque",
            "everything cut into angular shapes, as Picasso did around 1910",
            "analytical cubism by Georges Braque",
        ),
        ("angular cubist fragments", "Picasso and Braque"),
    ),
    Family(
        "pointillism",
        r"pointillis|divisionis|neo-impressionism|seurat|signac",
        (
            "made of dots",
            "seurat dots",
            "georges seurat painting",
            "dots of paint by Paul Signac",
            "pointillist dabs of pure colour",
            "a painting made of thousands of tiny coloured points",
            "Sunday on La Grande Jatte style",
            "stippled with little dots of unmixed colour, as Seurat painted the Seine",
        ),
        ("dots of paint by Seurat", "tiny colour points, Signac"),
    ),
    Family(
        "pop art",
        r"pop[- ]?art",
        (
            "warhol soup cans",
            "warhol style",
            "like a warhol print of marilyn",
            "pop-art poster",
            "60s pop art colours",
            "Roy Lichtenstein painting",
            "make me a pop art portrait in bright colours",
            "loud flat silkscreen colours as in Andy Warhol's factory",
        ),
        ("Warhol silkscreen", "bold pop art canvas"),
        calm=True,
    ),
    Family(
        "stained glass",
        r"stained[- ]glass",
        (
            "stained-glass effect",
            "church windows",
            "cathedral glass",
            "a gothic cathedral window",
            "tiffany glass lamp look",
            "coloured glass held by black lead",
            "like the windows of Chartres cathedral",
            "make it look like a stained glass window with thick black lines between the panes",
        ),
        ("glass panes in lead", "window of a medieval church"),
    ),
    Family(
        "watercolor",
        r"watercolo",
        (
            "water colour",
            "watercolour please",
            "aquarell",
            "a loose watercolour wash",
            "soft wet-on-wet watercolour",
            "painted with water colors by my aunt",
            "aquarelle on rough paper",
            "a delicate watercolour with pale washes and a lot of white paper left",
        ),
        ("transparent watercolour washes", "aquarelle sketch of a traveller"),
        calm=True,
    ),
    Family(
        "line drawing",
        r"black line pencil sketch|sketch and study",
        (
            "plain pencil please",
            "drawn with a pencil",
            "turn into a sketch",
            "black and white pencil drawing",
            "a quick graphite drawing",
            "hand drawn sketch, just lines",
            "a line sketch on white paper",
            "like an artist's sketchbook page, drawn with a soft pencil in a few minutes",
        ),
        ("rough sketch by hand", "lines of graphite on paper"),
        gray=True,
        calm=True,
    ),
    Family(
        "engraving",
        r"woodcut|etching|aquatint|linocut|wood engraving, black",
        (
            "old engraving",
            "like on a dollar bill",
            "gustave doré",
            "albrecht dürer engraving",
            "an old book illustration, black ink hatching",
            "an old woodcut illustration",
            "19th century wood engraving from a newspaper",
            "a copperplate engraving with fine parallel lines and cross-hatching",
        ),
        ("engraved by Gustave Doré", "hatched black lines of an antique print"),
        gray=True,
        calm=True,
    ),
    Family(
        "comic book",
        r"comic",
        (
            "comic-strip look",
            "marvel comic",
            "superhero comics",
            "like a page from a comic",
            "a page of a superhero comic",
            "graphic novel, bold black inks",
            "american comic from the 80s with strong shadows",
            "turn this picture into a panel of a comic book with thick ink lines and flat colours",
        ),
        ("comic panel, inked", "DC comics cover"),
        calm=True,
    ),
    Family(
        "cartoon",
        r"cartoon|animation",
        (
            "cartoon me",
            "saturday morning cartoon",
            "simpsons style",
            "like an old disney cartoon",
            "cute cartoon for kids",
            "a flat children's cartoon",
            "a cel from a cartoon film",
            "make my photo look like a funny cartoon with simple shapes and clean outlines",
        ),
        ("kids' TV cartoon", "simple cartoon drawing with flat fills"),
        calm=True,
    ),
)


@dataclass(frozen=True)
class Photo:
    """A photo that is held out from training.

    Attributes:
        name: File name without extension.
        shows: What it shows, for the reader.
        faces: Boxes (left, top, right, bottom), as fractions of width and height, marked by hand.
    """

    name: str
    shows: str
    faces: tuple[tuple[float, float, float, float], ...] = ()


PHOTOS: tuple[Photo, ...] = (
    Photo("eb1d67b7ae87", "astronaut", ((0.35, 0.12, 0.53, 0.36),)),
    Photo("d3a11a4d1128", "towers at night"),
    Photo("0add36df2855", "dog"),
    Photo("fe8d3bed53da", "woman with a cap", ((0.2, 0.15, 0.76, 0.62),)),
    Photo("d32da98b73f9", "castle under a clear sky"),
    Photo("e1d3eaf358f1", "yellow wall"),
    Photo("9892d72835db", "cake"),
    Photo("16e93f0b123a", "woman with tulips", ((0.52, 0.1, 0.73, 0.42),)),
    Photo("9d5dd7544fd1", "forest"),
    Photo("30fc83a6391c", "scoreboard"),
)
TRIAL_PHOTOS: tuple[Photo, ...] = (
    Photo("55929d7e76fc", "man", ((0.38, 0.05, 0.82, 0.5),)),
    Photo("78aa3b51e9a0", "mountains"),
    Photo("efba56a468ec", "cup of tea"),
    Photo("7f738fa687e9", "church and tower"),
)
"""Photos for trial networks, so that no choice depends on the table's photos."""


@dataclass(frozen=True)
class Case:
    """One picture to make: a wording of a family, applied to a photo.

    Attributes:
        prompt: The wording.
        family: The requested family.
        photo: Index in the list of photos.
        number: Index of the wording in its family; selects the style picture.
    """

    prompt: str
    family: str
    photo: int
    number: int


def table_cases(photos: int, each: int) -> list[Case]:
    """Apply every wording to `each` of the photos, so that each family covers the photos.

    Args:
        photos: Number of photos.
        each: Photos per wording.
    """
    return [
        Case(prompt, family.name, (row + each * number + turn) % photos, number)
        for row, family in enumerate(FAMILIES)
        for number, prompt in enumerate(family.prompts)
        for turn in range(min(each, photos))
    ]


def trial_cases(photos: int) -> list[Case]:
    """Apply the trial wordings to every trial photo."""
    return [
        Case(prompt, family.name, photo, number)
        for family in FAMILIES
        for number, prompt in enumerate(family.trial)
        for photo in range(photos)
    ]


def family_of(style_words: str) -> str:
    """Find the first family whose words match, or ""."""
    words = style_words.lower()
    return next((f.name for f in FAMILIES if re.search(f.words, words)), "")


def choose(paths: Iterable[Path], count: int) -> list[Path]:
    """Choose files independently of their order: those with the smallest hash of their name."""
    return sorted(paths, key=lambda path: hashlib.blake2b(path.name.encode()).hexdigest())[:count]
