"""Looks that people name, and the everyday words for them: beside the lists' own captions.

A look is known by words of a picture's texts. Its names stand in sentences as people type them,
its names in other languages come from `clipmamba.styles.translations`.
"""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass

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


LOOKS: tuple[Look, ...] = (
    Look(
        "van gogh",
        r"van gogh|swirling brush",
        (
            "vincent", "the starry night", "swirly brush strokes", "sunflowers by van gogh",
        ),
    ),
    Look(
        "klimt",
        r"klimt",
        (
            "gustav klimt", "gold leaf and ornament", "klimt's the kiss",
        ),
    ),
    Look(
        "mucha",
        r"mucha",
        (
            "alphonse mucha", "mucha poster",
        ),
    ),
    Look(
        "impressionism",
        r"^impressionism|impressionist paint|monet|renoir|pissarro|sisley",
        (
            "plein air", "monet's water lilies", "dabs of light and color", "renoir", "monet",
        ),
        ("impressionism",),
    ),
    Look(
        "post-impressionism",
        r"^post-impressionism|gauguin|c[eé]zanne",
        (
            "gauguin", "cezanne", "toulouse-lautrec",
        ),
        ("post-impressionism",),
    ),
    Look(
        "pointillism",
        r"pointillis|divisionis|seurat|signac",
        (
            "painted with dots", "seurat", "tiny dots of color",
        ),
        ("pointillism",),
    ),
    Look(
        "expressionism",
        r"^(german )?expressionism|munch|kirchner|pechstein",
        (
            "munch", "kirchner", "angst and jagged strokes", "the scream",
        ),
        ("expressionism",),
    ),
    Look(
        "fauvism",
        r"fauvis|matisse|derain",
        (
            "matisse", "wild flat color",
        ),
        ("fauvism",),
    ),
    Look(
        "cubism",
        r"cubis|picasso|braque",
        (
            "picasso", "braque", "broken into facets", "abstract shapes by picasso",
        ),
        ("cubism",),
    ),
    Look(
        "surrealism",
        r"surrealis|\bdal[ií]\b|magritte",
        (
            "dali", "magritte", "dreamlike melting clocks",
        ),
        ("surrealism",),
    ),
    Look(
        "symbolism",
        r"^symbolism|odilon redon|moreau",
        (
            "redon", "mystical dream painting",
        ),
        ("symbolism",),
    ),
    Look(
        "romanticism",
        r"^romanticism|aivazovsky|constable|delacroix",
        (
            "turner", "caspar david friedrich", "stormy sublime landscape", "aivazovsky",
        ),
        ("romanticism",),
    ),
    Look(
        "baroque",
        r"baroque|rembrandt|caravaggio|rubens|tenebrism",
        (
            "rembrandt", "caravaggio", "rubens", "old master", "candlelit old master", "vermeer",
        ),
        ("baroque",),
    ),
    Look(
        "renaissance",
        r"renaissance|leonardo|raphael sanzio|botticelli",
        (
            "leonardo da vinci", "botticelli", "mona lisa",
        ),
        ("renaissance",),
    ),
    Look(
        "oil painting",
        r"^oil painting|oil on canvas|impasto|palette knife",
        (
            "thick oil paint", "brush strokes on canvas", "oil paint",
        ),
        ("oil painting", "palette knife painting",),
    ),
    Look(
        "watercolor",
        r"watercolou?r|aquarelle",
        (
            "water color", "watercolor wash", "watercolor sketch", "wet watercolor",
            "loose watercolor",
        ),
        ("watercolor",),
    ),
    Look(
        "ink wash",
        r"ink wash|sumi-?e|chinese ink|shan shui",
        (
            "chinese brush painting", "zen brush painting", "rice paper ink",
        ),
        ("sumi-e",),
    ),
    Look(
        "ukiyo-e",
        r"ukiyo|japanese woodblock|hokusai|hiroshige|japanese print",
        (
            "hokusai", "hiroshige", "the great wave", "great wave off kanagawa", "edo woodblock",
            "old japanese print",
        ),
        ("ukiyo-e",),
    ),
    Look(
        "woodcut",
        r"woodcut|linocut|wood engraving|xylograph",
        (
            "linoleum cut", "carved block print", "durer woodcut", "medieval woodcut",
            "block print",
        ),
        ("woodcut", "linocut",),
    ),
    Look(
        "engraving",
        r"(?<!wood )engraving|etching|aquatint|banknote",
        (
            "bank note", "dollar bill engraving", "gustave dore", "old book engraving", "etched",
        ),
        ("engraving", "etching",),
    ),
    Look(
        "crayon",
        r"crayon|colou?red pencil",
        (
            "kid's crayon drawing", "wax crayons", "child's drawing", "children's drawing",
            "drawn by a child", "kids drawing", "colored pencils",
        ),
        ("colored pencil",),
    ),
    Look(
        "pencil sketch",
        r"pencil (sketch|drawing)|graphite",
        (
            "pencil", "hand drawn sketch", "sketchbook", "rough sketch", "drawn in pencil",
        ),
        ("pencil sketch",),
    ),
    Look(
        "line art",
        r"line (art|drawing)|vector line|pen and ink",
        (
            "pen and ink", "black ink lines", "coloring page", "outline drawing", "inked",
        ),
        ("line art", "ink drawing",),
    ),
    Look(
        "charcoal",
        r"charcoal",
        (
            "charcoal", "smudged charcoal",
        ),
        ("charcoal drawing",),
    ),
    Look(
        "pastel",
        r"\bpastels?\b",
        (
            "soft pastels", "oil pastels", "chalk pastels",
        ),
        ("pastel",),
    ),
    Look(
        "chalkboard",
        r"chalkboard|blackboard|chalk on",
        (
            "chalk board", "school blackboard chalk",
        ),
    ),
    Look(
        "comic book",
        r"comic|graphic novel|marvel",
        (
            "comic", "superhero comic", "marvel comic", "comic strip", "comics panel",
            "dc comics", "graphic novel page",
        ),
        ("comic book",),
    ),
    Look(
        "cartoon",
        r"cartoon|animation|pixar",
        (
            "toon", "cartoon character", "saturday morning cartoon", "kids cartoon",
            "the simpsons", "disney", "cartoonish", "funny cartoon",
        ),
        ("cartoon",),
    ),
    Look(
        "anime",
        r"\banime|ghibli|cel[- ]shad",
        (
            "studio ghibli", "ghibli", "miyazaki", "cel shaded", "japanese cartoon",
            "makoto shinkai", "spirited away",
        ),
        ("anime",),
    ),
    Look(
        "manga",
        r"manga(?! in colou?r)",
        (
            "manga panel", "shonen manga", "black and white manga page",
        ),
        ("manga",),
    ),
    Look(
        "children's book",
        r"children's book|storybook|nursery|fairy tale|fairy-tale|toy book|picture book",
        (
            "storybook picture", "fairytale illustration", "beatrix potter",
            "bedtime story picture", "nursery rhyme",
        ),
        ("children's book illustration",),
    ),
    Look(
        "botanical",
        r"botanical|orchid plate|natural history plate|flowers plate",
        (
            "old botany book", "flower plate", "herbarium plate",
        ),
        ("botanical illustration",),
    ),
    Look(
        "pop art",
        r"pop[ -]?art|warhol|lichtenstein",
        (
            "andy warhol", "warhol", "lichtenstein", "sixties pop", "campbell's soup cans",
            "marilyn screen print",
        ),
        ("pop art", "screen print",),
    ),
    Look(
        "halftone",
        r"halftone|newsprint|ben-day",
        (
            "printed dots", "newspaper dots",
        ),
        ("halftone",),
    ),
    Look(
        "art nouveau",
        r"^art nouveau|jugendstil|beardsley|koloman moser",
        (
            "belle epoque", "aubrey beardsley", "vienna secession poster", "art nouveau",
        ),
        ("art nouveau", "art nouveau poster",),
    ),
    Look(
        "art deco",
        r"art deco",
        (
            "great gatsby", "1920s deco", "twenties poster",
        ),
        ("art deco",),
    ),
    Look(
        "psychedelic",
        r"psychedelic",
        (
            "acid trip", "sixties concert poster", "trippy",
        ),
        ("psychedelic art",),
    ),
    Look(
        "stained glass",
        r"stained[- ]glass|leaded glass|tiffany glass",
        (
            "stained-glass", "church glass", "cathedral glass", "tiffany lamp",
            "colored glass panes", "stain glass", "gothic church window",
        ),
        ("stained glass",),
    ),
    Look(
        "mosaic",
        r"mosaic|tesserae",
        (
            "little tiles", "roman floor", "ceramic tiles", "ravenna", "broken tiles",
        ),
        ("mosaic",),
    ),
    Look(
        "embroidery",
        r"embroider|cross[- ]?stitch|needlework|sampler",
        (
            "stitches", "cross-stitch", "sewn with thread", "needle and thread", "satin stitches",
        ),
        ("embroidery",),
    ),
    Look(
        "knitted",
        r"knit|crochet|\bwool",
        (
            "knitting", "knitted", "crocheted", "made of yarn", "woolen sweater",
        ),
    ),
    Look(
        "tapestry",
        r"tapestry|bayeux",
        (
            "woven wall hanging", "medieval tapestry",
        ),
        ("tapestry",),
    ),
    Look(
        "paper cut",
        r"paper ?cut|papercraft|cut[- ]paper|origami|kirigami",
        (
            "cut-out paper", "layered paper", "origami", "folded paper",
        ),
        ("paper cut",),
    ),
    Look(
        "graffiti",
        r"graffiti|street art",
        (
            "banksy", "spray can", "spray painted wall", "urban mural",
        ),
        ("graffiti",),
    ),
    Look(
        "pixel art",
        r"pixel|8-bit|16-bit",
        (
            "8 bit", "16 bit", "nes", "gameboy", "minecraft", "retro game", "super nintendo",
            "old video game", "sprites", "big pixels",
        ),
        ("pixel art",),
    ),
    Look(
        "low poly",
        r"low[- ]?poly|polygon",
        (
            "low-poly", "triangles", "polygons", "ps1 graphics", "triangulated", "faceted 3d",
        ),
        ("low poly",),
    ),
    Look(
        "blueprint",
        r"blueprint",
        (
            "architect's plan", "technical plan", "white lines on blue paper",
            "construction drawing",
        ),
        ("blueprint",),
    ),
    Look(
        "neon",
        r"\bneon\b|cyberpunk",
        (
            "neon sign", "neon light", "glowing neon", "blade runner", "cyberpunk city", "tron",
            "cyberpunk neon lights",
        ),
        ("cyberpunk",),
    ),
    Look(
        "vaporwave",
        r"vaporwave|synthwave|retrowave",
        (
            "vapor wave", "80s retro", "eighties neon grid", "outrun sunset", "vhs", "miami vice",
        ),
        ("vaporwave",),
    ),
    Look(
        "film noir",
        r"\bnoir\b|black and white photograph|black-and-white film",
        (
            "noir movie", "black and white movie", "1940s detective film", "b/w", "bw photo",
            "grayscale", "monochrome film", "ansel adams", "black white photo",
        ),
        ("black and white photograph",),
    ),
    Look(
        "old photograph",
        r"sepia|daguerreotype|polaroid|vintage photo|old photograph|lomograph",
        (
            "vintage photo", "old photo", "antique photo", "great-grandmother's photo",
            "faded photo", "victorian photo", "polaroid", "wild west photo", "1900s photograph",
            "instant film",
        ),
        ("sepia photograph",),
    ),
    Look(
        "cyanotype",
        r"cyanotype",
        (
            "anna atkins", "blue sun print",
        ),
        ("cyanotype",),
    ),
    Look(
        "illuminated manuscript",
        r"illuminated manuscript|manuscript ornament|froissart",
        (
            "medieval manuscript", "monk's book", "book of hours", "medieval miniature",
        ),
    ),
    Look(
        "persian miniature",
        r"persian|mughal",
        (
            "persian miniature", "mughal miniature",
        ),
    ),
    Look(
        "egyptian",
        r"egyptian",
        (
            "ancient egypt", "hieroglyphs", "pharaoh's tomb painting",
        ),
    ),
    Look(
        "greek vase",
        r"greek (red|black)-figure|vase painting",
        (
            "greek vase", "ancient greek pottery",
        ),
    ),
    Look(
        "tarot",
        r"tarot",
        (
            "tarot card", "tarot deck", "rider-waite",
        ),
    ),
    Look(
        "marble",
        r"^marble$|marble (statue|sculpture|bust|relief)|carved in marble",
        (
            "marble statue", "greek statue", "carved stone", "michelangelo's david",
        ),
    ),
    Look(
        "clay",
        r"\bclay\b|claymation|plasticine",
        (
            "claymation", "plasticine", "wallace and gromit", "play-doh",
        ),
    ),
)  # fmt: skip


@functools.cache
def _known(name: str) -> tuple[str, ...]:
    style = next(style for style in KNOWN_STYLES if style.name == name)
    return (style.name, *style.aliases, *TRANSLATIONS.get(name, ()))


@functools.cache
def names(look: Look) -> tuple[str, ...]:
    """Everything that a look is called, its own words first, lower case."""
    known = (word for style in look.styles for word in _known(style))
    return tuple(dict.fromkeys(word.lower() for word in (look.name, *look.words, *known)))


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
