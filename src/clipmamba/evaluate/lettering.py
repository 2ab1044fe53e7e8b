"""Find a font for a label in any script."""

from __future__ import annotations

import logging
import unicodedata
from functools import lru_cache

from PIL import ImageFont

logger = logging.getLogger("clipmamba")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow's built-in font covers English only. Pillow looks up the following in the system's font
# folders. The first with all letters of a label is used, so fonts with the most scripts come last.
_INSTALLED = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("Arial.ttf", "arial.ttf", "Helvetica.ttc", "segoeui.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "NotoSansJP-Regular.otf"),
    *(
        "DroidSansFallbackFull.ttf",
        "wqy-zenhei.ttc",
        "wqy-microhei.ttc",
        "ipagp.ttf",
        "unifont.ttf",
    ),
    *("Hiragino Sans GB.ttc", "PingFang.ttc", "Arial Unicode.ttf", "ARIALUNI.TTF"),
    *("YuGothR.ttc", "msgothic.ttc", "msyh.ttc", "simsun.ttc", "malgun.ttf"),
    *("NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    *("NotoSansThai-Regular.ttf", "Nirmala.ttf", "NotoEmoji-Regular.ttf", "seguisym.ttf"),
)


def lettering(label: str, size: int) -> tuple[str, Font]:
    """Find a font with every letter of a label.

    Args:
        label: any text.
        size: font size in pixels.

    Returns:
        ``(text, font)``. If no installed font has all letters, `text` is a replacement, with a
        warning: accents are dropped, and letters of other scripts become Unicode code points.
    """
    letters = frozenset(unicodedata.normalize("NFC", label))
    plain = ImageFont.load_default(size)
    if _has(plain, letters):
        return label, plain
    for name in _INSTALLED:
        font = _installed(name, size)
        if font is not None and _has(font, letters):
            return unicodedata.normalize("NFC", label), font
    logger.warning("no installed font has all letters of %r; install Noto Sans (CJK)", label)
    return "".join(_spelled(letter, plain) for letter in unicodedata.normalize("NFC", label)), plain


@lru_cache(maxsize=64)
def _installed(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has(font: Font, letters: frozenset[str]) -> bool:
    """Tell whether a font has all letters: none looks like the missing glyph."""
    missing = _shape(font, "\U0010ffff")
    return all(letter.isspace() or _shape(font, letter) != missing for letter in letters)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _spelled(letter: str, font: Font) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return bare if bare and _has(font, frozenset(bare)) else f"[{ord(letter):04X}]"
