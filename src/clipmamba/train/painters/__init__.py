"""Procedural painters: pure functions that restyle a photo, exactly aligned with it.

They give the stylizer pairs (photo, words, result) without end and without rights. A painter
takes a float32 photo (H, W, 3) in sRGB [0, 1] and a numpy generator; the same generator state
gives the same picture. Texture scales with the short side, so a 256 pixel picture has the look
of a 128 pixel one.

    from clipmamba.train.painters import PAINTERS
    picture = PAINTERS["mosaic"](photo, np.random.default_rng(7))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipmamba.errors import InputError
from clipmamba.train.painters import craft, drawing, light, painting, prints, tiles
from clipmamba.train.painters._tools import Array

__all__ = ["MIN_SIDE", "PAINTERS", "Painter"]

MIN_SIDE = 32
"""Shortest side in pixels a painter accepts: below, no texture fits."""


@dataclass(frozen=True)
class Painter:
    """A style as a function, with the words a person would type for it.

    Attributes:
        name: key in `PAINTERS`, lower case with blanks.
        paint: the function (photo (H, W, 3) float32 in [0, 1], generator) -> same shape and range.
        prompts: English phrases that mean this style: synonyms, media, spellings.
    """

    name: str
    paint: Callable[[Array, np.random.Generator], Array]
    prompts: tuple[str, ...]

    def __call__(self, photo: Array, rng: np.random.Generator) -> Array:
        """Restyle a photo.

        Args:
            photo: float32 (H, W, 3), sRGB in [0, 1], both sides at least `MIN_SIDE`.
            rng: source of palette, angles, sizes and grain.

        Returns:
            A new float32 array (H, W, 3) in [0, 1], aligned with the photo.

        Raises:
            InputError: the array has another shape or type, or is too small.
        """
        if photo.dtype != np.float32 or photo.ndim != 3 or photo.shape[2] != 3:
            raise InputError(
                f"a painter takes a float32 array (H, W, 3), got {photo.dtype} {photo.shape}; "
                "convert it first"
            )
        if min(photo.shape[:2]) < MIN_SIDE:
            raise InputError(f"photo of {photo.shape[:2]} is too small; give at least {MIN_SIDE}²")
        return self.paint(photo, rng)


_ALL = (
    Painter(
        "pixel art",
        tiles.pixel_art,
        (
            "pixel art",
            "8-bit game",
            "8 bit pixel graphics",
            "16-bit video game sprite",
            "a retro video game screenshot",
            "pixelated",
            "pixelart",
            "blocky pixels in a limited palette",
            "old computer game graphics",
            "NES game",
            "in the style of an arcade game",
        ),
    ),
    Painter(
        "mosaic",
        tiles.mosaic,
        (
            "mosaic",
            "a Roman mosaic",
            "Byzantine mosaic",
            "made of small stone tiles",
            "tesserae",
            "ceramic tile mosaic",
            "mosaic tiles with grout",
            "a mosaic floor from Pompeii",
            "in the style of a mosaic",
            "mozaic",
        ),
    ),
    Painter(
        "stained glass",
        tiles.stained_glass,
        (
            "stained glass",
            "a stained glass window",
            "stained-glass",
            "church window",
            "leaded glass",
            "coloured glass with lead lines",
            "cathedral window",
            "Tiffany glass",
            "glowing glass panes",
            "a gothic stained glass window",
        ),
    ),
    Painter(
        "low poly",
        tiles.low_poly,
        (
            "low poly",
            "low-poly art",
            "lowpoly",
            "made of triangles",
            "polygon art",
            "geometric triangles",
            "a low polygon 3D render",
            "triangulated",
            "faceted polygons",
            "Delaunay triangulation",
        ),
    ),
    Painter(
        "cubism",
        tiles.cubism,
        (
            "cubism",
            "a cubist painting",
            "cubist",
            "in the style of Picasso",
            "Pablo Picasso",
            "Georges Braque",
            "analytical cubism",
            "fragmented planes in ochre and grey",
            "Juan Gris",
            "a painting broken into geometric facets",
        ),
    ),
    Painter(
        "cross-stitch",
        tiles.cross_stitch,
        (
            "cross-stitch",
            "cross stitch",
            "a cross-stitch pattern",
            "counted cross stitch on canvas",
            "needlepoint",
            "stitched on aida cloth",
            "little thread crosses",
            "needlework sampler",
            "a cross stitched picture",
        ),
    ),
    Painter(
        "embroidery",
        tiles.embroidery,
        (
            "embroidery",
            "an embroidered patch",
            "embroidered with silk thread",
            "stitched in thread",
            "satin stitch embroidery",
            "thread painting",
            "sewn on fabric",
            "a textile artwork",
            "tapestry",
        ),
    ),
    Painter(
        "halftone",
        prints.halftone,
        (
            "halftone",
            "halftone print",
            "print dots",
            "CMYK halftone dots",
            "Ben-Day dots",
            "half-tone dots",
            "offset print under a magnifying glass",
            "coloured printing dots",
            "an old colour magazine print",
        ),
    ),
    Painter(
        "newsprint",
        prints.newsprint,
        (
            "newsprint",
            "a newspaper photo",
            "black and white halftone",
            "printed in a newspaper",
            "old newspaper print",
            "black halftone dots on grey paper",
            "a photocopy",
            "a press photograph in newsprint",
        ),
    ),
    Painter(
        "comic book",
        prints.comic_book,
        (
            "comic book",
            "a comic book panel",
            "comic",
            "comics style",
            "graphic novel",
            "superhero comic",
            "American comic with ink outlines",
            "in the style of Roy Lichtenstein",
            "inked comic strip",
            "a vintage comic with dots",
        ),
    ),
    Painter(
        "pop art",
        prints.pop_art,
        (
            "pop art",
            "pop-art",
            "popart",
            "in the style of Andy Warhol",
            "Warhol screen print",
            "a silkscreen in loud colours",
            "bold saturated flat colours",
            "a sixties pop art poster",
            "screenprint",
            "pop art portrait",
        ),
    ),
    Painter(
        "woodcut",
        prints.woodcut,
        (
            "woodcut",
            "a woodcut print",
            "wood engraving",
            "woodblock print in black and white",
            "in the style of Albrecht Dürer",
            "Dürer woodcut",
            "carved wood block print",
            "xylography",
            "a medieval woodcut",
            "wood cut",
        ),
    ),
    Painter(
        "linocut",
        prints.linocut,
        (
            "linocut",
            "lino cut",
            "a linocut print",
            "linoleum print",
            "lino print",
            "block print in one colour",
            "relief print with gouge marks",
            "a bold hand-printed linocut",
            "rubber stamp",
        ),
    ),
    Painter(
        "engraving",
        prints.engraving,
        (
            "engraving",
            "an engraving",
            "copperplate engraving",
            "steel engraving",
            "banknote engraving",
            "an etching",
            "etching with cross-hatching",
            "in the style of Gustave Doré",
            "an old book illustration in fine lines",
            "intaglio print",
        ),
    ),
    Painter(
        "ukiyo-e",
        prints.ukiyo_e,
        (
            "ukiyo-e",
            "ukiyoe",
            "a Japanese woodblock print",
            "in the style of Hokusai",
            "Hokusai",
            "Hiroshige",
            "Japanese print from the Edo period",
            "ukiyo e woodblock",
            "the floating world",
            "Japanese wood block print in indigo and vermilion",
            "Utamaro",
        ),
    ),
    Painter(
        "art nouveau",
        prints.art_nouveau,
        (
            "art nouveau",
            "an art nouveau poster",
            "in the style of Alphonse Mucha",
            "Mucha",
            "Jugendstil",
            "a poster of 1900",
            "art-nouveau",
            "decorative poster with flowing contours",
            "belle époque poster",
            "Toulouse-Lautrec poster",
        ),
    ),
    Painter(
        "risograph",
        prints.risograph,
        (
            "risograph",
            "a risograph print",
            "riso print",
            "two-colour zine print",
            "grainy two colour print",
            "fluorescent ink on uncoated paper",
            "an indie zine illustration",
            "misregistered spot colours",
        ),
    ),
    Painter(
        "duotone",
        prints.duotone,
        (
            "duotone",
            "a duotone image",
            "duo tone",
            "two-tone colours",
            "gradient map",
            "a modern duotone poster",
            "bichrome",
            "an album cover in two colours",
        ),
    ),
    Painter(
        "pencil sketch",
        drawing.pencil_sketch,
        (
            "pencil sketch",
            "graphite drawing",
            "a hand-drawn pencil sketch",
            "black and white line drawing",
            "pencil drawing",
            "a sketch",
            "hatched pencil shading",
            "drawn with a graphite pencil on paper",
            "a sketchbook page",
            "sketched by hand",
            "line art",
        ),
    ),
    Painter(
        "coloured pencil",
        drawing.coloured_pencil,
        (
            "coloured pencil",
            "colored pencil drawing",
            "color pencil sketch",
            "drawn with crayons",
            "crayon drawing",
            "a child's crayon picture",
            "wax crayon",
            "coloured pencils on paper",
            "a colourful hand drawing",
        ),
    ),
    Painter(
        "charcoal",
        drawing.charcoal,
        (
            "charcoal",
            "a charcoal drawing",
            "charcoal sketch",
            "smudged charcoal on rough paper",
            "black chalk drawing",
            "drawn with charcoal",
            "dark charcoal study",
            "conté crayon",
            "a dramatic charcoal portrait",
        ),
    ),
    Painter(
        "ink wash",
        drawing.ink_wash,
        (
            "ink wash",
            "sumi-e",
            "sumi e",
            "sumie",
            "Chinese ink painting",
            "Japanese ink painting",
            "an ink wash painting",
            "black ink on rice paper",
            "shan shui",
            "brush and ink",
            "Zen ink brush painting",
            "grey ink washes",
        ),
    ),
    Painter(
        "blueprint",
        drawing.blueprint,
        (
            "blueprint",
            "a blueprint",
            "technical drawing on blue paper",
            "architect's plan",
            "engineering blueprint",
            "white lines on blue",
            "an architectural blueprint",
            "construction plan",
            "a patent drawing on blue",
        ),
    ),
    Painter(
        "chalkboard",
        drawing.chalkboard,
        (
            "chalkboard",
            "chalk on a blackboard",
            "chalk drawing",
            "blackboard",
            "drawn with white chalk",
            "chalk board art",
            "a school blackboard",
            "chalk on slate",
        ),
    ),
    Painter(
        "pastel",
        drawing.pastel,
        (
            "pastel",
            "a pastel drawing",
            "soft pastel",
            "chalk pastels",
            "oil pastel",
            "a pastel painting",
            "in the style of Degas",
            "powdery pastel colours on paper",
            "Edgar Degas pastel",
        ),
    ),
    Painter(
        "watercolour",
        painting.watercolour,
        (
            "watercolour",
            "watercolor",
            "a watercolor painting",
            "a watercolour sketch",
            "aquarelle",
            "painted with watercolors",
            "pale transparent washes",
            "water colour on paper",
            "a loose watercolor illustration",
            "gouache and watercolour",
            "wet on wet watercolor",
        ),
    ),
    Painter(
        "oil painting",
        painting.oil_painting,
        (
            "oil painting",
            "an oil painting",
            "oil on canvas",
            "painted in oils",
            "a classical oil painting",
            "thick oil paint with visible brush strokes",
            "impasto",
            "a painting",
            "brushstrokes on canvas",
            "palette knife painting",
            "acrylic painting",
        ),
    ),
    Painter(
        "impressionism",
        painting.impressionism,
        (
            "impressionism",
            "an impressionist painting",
            "in the style of Claude Monet",
            "Monet",
            "impresionism",
            "impressionist",
            "Renoir",
            "French impressionism",
            "a plein air painting with short brush strokes",
            "Monet's garden",
            "Pissarro",
        ),
    ),
    Painter(
        "pointillism",
        painting.pointillism,
        (
            "pointillism",
            "a pointillist painting",
            "in the style of Georges Seurat",
            "Seurat",
            "Paul Signac",
            "painted in dots",
            "made of small dots of colour",
            "divisionism",
            "neo-impressionism",
            "pointilism",
        ),
    ),
    Painter(
        "van Gogh",
        painting.van_gogh,
        (
            "van Gogh",
            "in the style of Vincent van Gogh",
            "The Starry Night",
            "Starry Night by van Gogh",
            "Vincent van Gogh",
            "swirling brush strokes",
            "vangogh",
            "post-impressionism",
            "swirls of thick blue and yellow paint",
            "a post-impressionist painting",
        ),
    ),
    Painter(
        "expressionism",
        painting.expressionism,
        (
            "expressionism",
            "an expressionist painting",
            "in the style of Edvard Munch",
            "The Scream",
            "Munch",
            "German expressionism",
            "Ernst Ludwig Kirchner",
            "wild anxious colours and raw strokes",
            "expressionist",
            "Die Brücke",
        ),
    ),
    Painter(
        "fauvism",
        painting.fauvism,
        (
            "fauvism",
            "a fauvist painting",
            "in the style of Henri Matisse",
            "Matisse",
            "André Derain",
            "fauve",
            "pure unmixed bright pigments",
            "wild beasts of colour",
            "a painting in pure flat colours",
        ),
    ),
    Painter(
        "baroque",
        painting.baroque,
        (
            "baroque",
            "a baroque painting",
            "chiaroscuro",
            "in the style of Caravaggio",
            "Rembrandt",
            "in the style of Rembrandt",
            "tenebrism",
            "dramatic candle light",
            "an old master painting",
            "Dutch golden age painting",
            "dark background with warm light",
        ),
    ),
    Painter(
        "sepia",
        light.sepia,
        (
            "sepia",
            "a sepia photograph",
            "an old photograph",
            "vintage photo",
            "antique photograph from 1890",
            "sepia toned",
            "a Victorian photograph",
            "faded brown photo",
            "daguerreotype",
            "old west photograph",
        ),
    ),
    Painter(
        "cyanotype",
        light.cyanotype,
        (
            "cyanotype",
            "a cyanotype print",
            "Prussian blue print",
            "sun print",
            "Anna Atkins cyanotype",
            "blue monochrome photograph",
            "an antique blue photogram",
            "blue toned photograph",
        ),
    ),
    Painter(
        "film noir",
        light.noir,
        (
            "film noir",
            "noir",
            "black and white photograph",
            "a black and white film still",
            "high contrast black and white",
            "monochrome photo",
            "grainy black-and-white film",
            "a 1940s detective movie",
            "greyscale photography",
        ),
    ),
    Painter(
        "neon",
        light.neon,
        (
            "neon",
            "neon lights",
            "a neon sign",
            "glowing neon lines",
            "neon glow on black",
            "cyberpunk neon",
            "glowing edges in the dark",
            "Tron",
            "made of neon tubes",
            "light painting",
        ),
    ),
    Painter(
        "anime",
        light.anime,
        (
            "anime",
            "cartoon",
            "a cartoon",
            "cel shading",
            "cel-shaded",
            "Studio Ghibli",
            "Japanese animation",
            "manga in colour",
            "flat cartoon colours",
            "an animated film still",
            "toon shading",
        ),
    ),
    Painter(
        "gold relief",
        light.gold_relief,
        (
            "gold relief",
            "gold leaf",
            "made of gold",
            "golden",
            "embossed in gold",
            "a golden relief",
            "gilded",
            "hammered metal",
            "a gold coin",
            "bronze relief",
            "cast in gold",
        ),
    ),
    Painter(
        "vaporwave",
        light.vaporwave,
        (
            "vaporwave",
            "synthwave",
            "retrowave",
            "80s aesthetic",
            "outrun",
            "VHS tape",
            "pink and cyan retro aesthetic",
            "a glitchy video tape still",
            "vapor wave",
        ),
    ),
    Painter(
        "paper cut",
        craft.paper_cut,
        (
            "paper cut",
            "papercut",
            "cut paper layers",
            "paper cutout",
            "a layered paper art diorama",
            "paper collage",
            "made of paper",
            "kirigami",
            "cut-out paper with shadows",
            "construction paper craft",
        ),
    ),
    Painter(
        "knitted wool",
        craft.knitted,
        (
            "knitted wool",
            "made of wool",
            "knitted",
            "a knitted sweater",
            "knitting",
            "wool yarn stitches",
            "crochet",
            "a knit pattern",
            "woolly jumper",
            "made of yarn stitches",
        ),
    ),
    Painter(
        "marble",
        craft.marble,
        (
            "marble",
            "a marble statue",
            "carved in marble",
            "white marble relief",
            "stone sculpture",
            "made of stone",
            "classical Greek sculpture",
            "carved stone",
            "alabaster",
            "a plaster bas-relief",
        ),
    ),
    Painter(
        "night",
        craft.night,
        (
            "night",
            "cold blue night",
            "at night",
            "moonlight",
            "a moonlit night",
            "midnight blue",
            "a dark blue night scene",
            "nocturne",
            "under the moon",
            "day for night",
        ),
    ),
    Painter(
        "fire",
        craft.fire,
        (
            "fire",
            "on fire",
            "burning",
            "in flames",
            "made of fire",
            "blazing inferno",
            "glowing embers",
            "lava",
            "engulfed in flames",
            "hellfire",
        ),
    ),
    Painter(
        "frost",
        craft.frost,
        (
            "frost",
            "frozen",
            "made of ice",
            "ice",
            "winter frost",
            "covered in hoarfrost",
            "icy",
            "frozen in ice crystals",
            "a snowy winter",
            "cold ice blue",
        ),
    ),
    Painter(
        "thermal camera",
        craft.thermal,
        (
            "thermal camera",
            "thermal imaging",
            "heat map",
            "infrared camera",
            "heat vision",
            "false colour heat",
            "thermography",
            "Predator vision",
        ),
    ),
    Painter(
        "golden hour",
        craft.golden_hour,
        (
            "golden hour",
            "sunset",
            "at sunset",
            "warm sunset light",
            "evening sun",
            "amber light at dusk",
            "sunrise glow",
            "a warm orange sunset",
            "late summer evening light",
        ),
    ),
)

PAINTERS: dict[str, Painter] = {painter.name: painter for painter in _ALL}
"""Every painter by name."""
