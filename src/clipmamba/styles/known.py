"""The known styles and their aliases; does not import torch, since the help prints this list.

Any prompt works; these are the words worth trying first, with other spellings of the same.
"""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from functools import cache

from clipmamba.errors import InputError
from clipmamba.styles.translations import TRANSLATIONS


@dataclass(frozen=True)
class KnownStyle:
    """A known style and its names.

    Args:
        name: The usual name.
        family: "painting", "print", "drawing", "craft", "design", "digital" or "photograph".
        aliases: Other names and spellings.
        prompt: What CLIP reads in place of these names; the name if empty. An artist's name if
            the movement's own name covers too many kinds of pictures.
        palette: Whether it has colors of its own. Where it has none, as a technique, pictures keep
            most of the photo's.
        pixelated: Whether its pictures consist of square blocks.
    """

    name: str
    family: str
    aliases: tuple[str, ...] = ()
    prompt: str = ""
    palette: bool = True
    pixelated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", self.prompt or self.name)


KNOWN_STYLES: tuple[KnownStyle, ...] = (
    # Movements and manners of painting
    KnownStyle(
        "impressionism", "painting", ("impressionist", "impressionist painting"), palette=False
    ),
    KnownStyle("post-impressionism", "painting", ("post impressionist",)),
    KnownStyle(
        "pointillism",
        "painting",
        ("pointillist", "divisionism", "neo-impressionism"),
        palette=False,
    ),
    KnownStyle("expressionism", "painting", ("expressionist", "german expressionism")),
    KnownStyle("abstract expressionism", "painting", ("action painting", "drip painting")),
    KnownStyle("fauvism", "painting", ("fauvist", "fauve")),
    KnownStyle("cubism", "painting", ("cubist", "analytic cubism", "synthetic cubism")),
    KnownStyle("surrealism", "painting", ("surrealist", "surreal painting"), palette=False),
    KnownStyle("symbolism", "painting", ("symbolist",)),
    KnownStyle("romanticism", "painting", ("romantic painting", "romanticist")),
    KnownStyle("realism", "painting", ("realist painting", "realistic painting"), palette=False),
    KnownStyle(
        "baroque", "painting", ("baroque painting", "chiaroscuro", "tenebrism"), "rembrandt"
    ),
    KnownStyle("rococo", "painting", ("rococo painting", "late baroque")),
    KnownStyle("renaissance", "painting", ("renaissance painting", "high renaissance")),
    KnownStyle("dutch golden age", "painting", ("flemish painting", "dutch master")),
    KnownStyle("futurism", "painting", ("futurist",)),
    KnownStyle("suprematism", "painting", ("suprematist",)),
    KnownStyle("abstract art", "painting", ("abstract", "abstract painting")),
    KnownStyle("op art", "painting", ("optical art",)),
    KnownStyle("pop art", "painting", ("popart",)),
    KnownStyle("naive art", "painting", ("naïve art", "outsider art", "folk art")),
    KnownStyle("byzantine icon", "painting", ("byzantine", "orthodox icon", "icon painting")),
    KnownStyle("fresco", "painting", ("mural painting", "wall painting")),
    KnownStyle("oil painting", "painting", ("oil on canvas", "oils"), palette=False),
    KnownStyle(
        "watercolor", "painting", ("watercolour", "aquarelle", "watercolor painting"), palette=False
    ),
    KnownStyle(
        "gouache", "painting", ("gouache painting", "bodycolor", "bodycolour"), palette=False
    ),
    KnownStyle("acrylic painting", "painting", ("acrylic", "acrylics"), palette=False),
    KnownStyle("palette knife painting", "painting", ("impasto", "thick paint"), palette=False),
    KnownStyle("sumi-e", "painting", ("sumie", "ink wash painting", "chinese ink painting")),
    # Prints
    KnownStyle(
        "ukiyo-e", "print", ("ukiyoe", "japanese woodblock print", "japanese print"), "hokusai"
    ),
    KnownStyle("woodcut", "print", ("wood cut", "woodblock print", "wood engraving", "xylograph")),
    KnownStyle("linocut", "print", ("lino cut", "linoleum print", "lino print")),
    KnownStyle("etching", "print", ("etched print", "aquatint", "drypoint")),
    KnownStyle("engraving", "print", ("copperplate engraving", "steel engraving")),
    KnownStyle("lithograph", "print", ("lithography", "stone print")),
    KnownStyle("screen print", "print", ("screenprint", "silkscreen", "serigraph")),
    KnownStyle("halftone", "print", ("halftone print", "ben day dots", "newspaper print")),
    KnownStyle("risograph", "print", ("riso", "riso print")),
    # Drawing
    KnownStyle("pencil sketch", "drawing", ("pencil drawing", "graphite drawing", "sketch")),
    KnownStyle(
        "colored pencil", "drawing", ("coloured pencil", "crayon drawing", "crayon"), palette=False
    ),
    KnownStyle("charcoal drawing", "drawing", ("charcoal", "charcoal sketch")),
    KnownStyle(
        "pastel", "drawing", ("pastel drawing", "soft pastel", "chalk drawing"), palette=False
    ),
    KnownStyle("ink drawing", "drawing", ("pen and ink", "pen drawing", "ink sketch")),
    KnownStyle("line art", "drawing", ("lineart", "line drawing", "one line drawing")),
    KnownStyle(
        "comic book",
        "drawing",
        ("comic", "comics", "graphic novel", "bande dessinée"),
        palette=False,
    ),
    KnownStyle("cartoon", "drawing", ("cartoon illustration", "toon"), palette=False),
    KnownStyle("manga", "drawing", ("black and white manga", "japanese comic")),
    KnownStyle(
        "anime",
        "drawing",
        ("anime illustration", "japanese animation", "cel shading"),
        palette=False,
    ),
    KnownStyle(
        "children's book illustration", "drawing", ("picture book", "storybook"), palette=False
    ),
    KnownStyle(
        "botanical illustration", "drawing", ("botanical drawing", "botanical print"), palette=False
    ),
    # Crafts
    KnownStyle("mosaic", "craft", ("roman mosaic", "tile mosaic", "tesserae"), palette=False),
    KnownStyle("stained glass", "craft", ("stained glass window", "leaded glass", "church window")),
    KnownStyle("embroidery", "craft", ("cross stitch", "needlework", "stitched"), palette=False),
    KnownStyle("tapestry", "craft", ("woven tapestry", "gobelin")),
    KnownStyle("paper cut", "craft", ("papercut", "cut paper", "paper craft")),
    KnownStyle("collage", "craft", ("paper collage", "photo collage", "decoupage"), palette=False),
    KnownStyle("graffiti", "craft", ("street art", "spray paint", "stencil graffiti")),
    # Design
    KnownStyle("art nouveau", "design", ("jugendstil", "vienna secession", "modernisme")),
    KnownStyle("art nouveau poster", "design", ("belle époque poster",)),
    KnownStyle("art deco", "design", ("art déco", "deco poster")),
    KnownStyle("bauhaus", "design", ("bauhaus poster",)),
    KnownStyle("constructivism", "design", ("constructivist", "soviet poster")),
    KnownStyle("psychedelic art", "design", ("psychedelic", "psychedelic poster")),
    KnownStyle(
        "flat design", "design", ("flat style", "flat illustration", "vector art"), palette=False
    ),
    KnownStyle("blueprint", "design", ("technical drawing", "cyan blueprint")),
    # Digital
    KnownStyle(
        "pixel art",
        "digital",
        ("pixelart", "8-bit", "16-bit", "pixelated"),
        palette=False,
        pixelated=True,
    ),
    KnownStyle("low poly", "digital", ("lowpoly", "low polygon", "polygon art"), palette=False),
    KnownStyle(
        "digital painting", "digital", ("digital art", "digital illustration"), palette=False
    ),
    KnownStyle("concept art", "digital", ("matte painting",), palette=False),
    KnownStyle("cyberpunk", "digital", ("cyber punk",)),
    KnownStyle("vaporwave", "digital", ("synthwave", "retrowave", "outrun")),
    KnownStyle("steampunk", "digital", ("steam punk",)),
    # Photography
    KnownStyle("sepia photograph", "photograph", ("sepia", "old photograph", "daguerreotype")),
    KnownStyle("cyanotype", "photograph", ("prussian blue print", "sun print")),
    KnownStyle(
        "black and white photograph", "photograph", ("black and white", "b&w", "monochrome")
    ),
)


def find_style(word: str) -> KnownStyle:
    """Find the known style with this name, alias or name in another language.

    Case, hyphens, accents and a trailing "style" make no difference.

    Raises:
        InputError: There is none; the message suggests the nearest.

    Examples:
        >>> find_style("Ukiyoe style").name
        'ukiyo-e'
    """
    style = lookup_style(word)
    if style is None:
        close = suggest_styles(word, 1)
        hint = f"did you mean {close[0]!r}?" if close else "see `clipmamba styles` for the list"
        raise InputError(f"no known style {word!r}; {hint}")
    return style


def lookup_style(word: str) -> KnownStyle | None:
    """Find a known style like `find_style`, but return None if there is none."""
    return _index().get(_key(word))


def suggest_styles(word: str, count: int = 3) -> list[str]:
    """List the names of the known styles nearest in spelling, best first; empty if none is near.

    Examples:
        >>> suggest_styles("watercolr", 1)
        ['watercolor']
    """
    index = _index()
    names = [index[k].name for k in difflib.get_close_matches(_key(word), index, n=10, cutoff=0.7)]
    return list(dict.fromkeys(names))[:count]


def misspelt(word: str) -> str | None:
    """Return the known style that is probably meant; None if the words are not close to any."""
    if lookup_style(word) or search_styles(word):
        return None
    said, best, meant = _words(word), 0.79, None  # 0.8 has two swapped letters of five
    for style in KNOWN_STYLES:
        for name in (style.name, *style.aliases):
            pairs = zip(said, known, strict=True) if len(known := _words(name)) == len(said) else ()
            differing = [pair for pair in pairs if pair[0] != pair[1]]
            if len(differing) == 1:  # one word is nearly right, the others are the same
                likeness = difflib.SequenceMatcher(None, *differing[0]).ratio()
                if likeness > best:
                    best, meant = likeness, style.name
    return meant


def search_styles(word: str) -> list[KnownStyle]:
    """List the known styles with this word in their name, aliases or family.

    Examples:
        >>> [style.name for style in search_styles("cubis")]
        ['cubism']
    """
    key = _key(word)
    return [
        style
        for style in KNOWN_STYLES
        if any(key in _key(text) for text in (style.name, style.family, *style.aliases))
    ]


@cache
def _index() -> dict[str, KnownStyle]:
    return {
        _key(word): style
        for style in KNOWN_STYLES
        for word in (style.name, *style.aliases, *TRANSLATIONS.get(style.name, ()))
    }


def _key(word: str) -> str:
    """Reduce to letters and digits, without accents and without a trailing "style"."""
    key = "".join(_words(word))
    ending = next((end for end in _endings() if key.endswith(end) and key != end), "")
    return key.removesuffix(ending)


@cache
def _endings() -> tuple[str, ...]:
    """List the words for "style" in languages that append it without a space."""
    return tuple(
        "".join(_words(word)) for word in ("スタイル", "스타일", "风格", "風格", "風", "风", "풍")
    )


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    kept = words.split()
    if len(kept) > 1 and kept[-1] in ("style", "stil"):
        kept.pop()
    return kept
