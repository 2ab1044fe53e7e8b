"""What a photo carries beside its pixels: EXIF, XMP, resolution; and how a result was made."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

logger = logging.getLogger("clipmamba")

# Tags that describe how the old file laid out its pixels; copied, they would corrupt the new one.
# 274 is the orientation (applied on reading), 700 XMP (repeats it), 34675 the ICC profile.
_LAYOUT_TAGS = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(284, 288, 289, 290, 291, 292, 293, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 332),
        *(338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
        *(700, 34377, 34675),
    }
)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_PIXEL_SIZE = (0xA002, 0xA003)  # inside the Exif part; width and height of the upright picture
_USER_COMMENT = 0x9286
_ASCII = b"ASCII\0\0\0"  # how a user comment says its encoding


def exif_bytes(image: Image.Image, size: tuple[int, int]) -> bytes | None:
    """Serialise EXIF for an upright picture, without pixel layout and the stale thumbnail."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_IFD)
        details.update({k: v for k, v in zip(_PIXEL_SIZE, size, strict=True) if k in details})
        kept = Image.Exif()
        for tag, value in exif.items():
            if tag not in _LAYOUT_TAGS:
                kept[tag] = exif.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else value
        return kept.tobytes() if len(kept) else None
    except Exception as error:  # noqa: BLE001 - damaged metadata must not cost the photo
        logger.warning("unreadable EXIF left out: %s", one_line(error))
        return None


def xmp_bytes(image: Image.Image) -> bytes | None:
    """XMP as Pillow found it; PNG has it as text."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        return xmp.encode("utf-8", "surrogateescape")
    return xmp if isinstance(xmp, bytes) else None


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, where a file says something sensible."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    sensible = all(math.isfinite(value) and 1 <= value <= 100_000 for value in (across, down))
    return (across, down) if sensible else None


def add_settings(exif: bytes | None, settings: Mapping[str, Any]) -> bytes:
    """Write how a result was made into EXIF's user comment, unless the photo has its own there.

    Args:
        exif: The photo's EXIF, or None.
        settings: What JSON can hold.
    """
    data = Image.Exif()
    if exif:
        data.load(exif)
    details = data.get_ifd(_EXIF_IFD)
    own = details.get(_USER_COMMENT, b"")
    if isinstance(own, bytes) and not own[8:].strip(b"\0 "):
        details[_USER_COMMENT] = _ASCII + json.dumps({"clipmamba": dict(settings)}).encode()
        data[_EXIF_IFD] = details
    return data.tobytes()


def read_settings(picture: Image.Image) -> dict[str, Any] | None:
    """Give back how a picture was made.

    Args:
        picture: As `read_picture` returns it.

    Returns:
        What was given to `write_picture` as settings; None where the picture has none.
    """
    data = Image.Exif()
    data.load(picture.info.get("exif", b""))
    comment = data.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    try:
        settings = json.loads(comment[len(_ASCII) :])["clipmamba"]
    except (ValueError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
