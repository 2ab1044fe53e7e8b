"""What a photo carries beside its pixels: EXIF, XMP, IPTC, texts; and how a result was made."""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

from clipmamba.files import one_line

logger = logging.getLogger("clipmamba")

# Tags that describe how the old file laid out its pixels; copied, they would corrupt the new one.
# 274 is the orientation (applied on reading), 700 XMP, 33723 IPTC and 34675 the ICC profile (each
# carried on its own), 37724 Photoshop's layers, which the result no longer shows.
_LAYOUT_TAGS = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(284, 288, 289, 290, 291, 292, 293, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 332),
        *(338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
        *(700, 33723, 34377, 34675, 37724),
    }
)
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005  # the last is inside the first
_PIXEL_SIZE = (0xA002, 0xA003)  # inside the Exif part; width and height of the upright picture
_COLOR_SPACE, _MAKER_NOTE, _USER_COMMENT, _PROGRAM = 0xA001, 0x927C, 0x9286, 0x000B
_ASCII = b"ASCII\0\0\0"  # how a user comment says its encoding
_XMP_TAG, IPTC_TAG = 700, 33723  # of TIFF
_IPTC_START = b"\x1c"
_IPTC_RESOURCE = 0x0404  # of Photoshop's part of a JPEG
_OURS = "clipmamba"


def exif_bytes(image: Image.Image, size: tuple[int, int]) -> bytes | None:
    """Serialise EXIF for an upright picture, without pixel layout and the stale thumbnail."""
    try:
        exif = image.getexif()
        details = _details(exif)
        details.update({k: v for k, v in zip(_PIXEL_SIZE, size, strict=True) if k in details})
        kept = Image.Exif()
        for tag, value in exif.items():
            if tag not in _LAYOUT_TAGS:
                kept[tag] = {_EXIF_IFD: details, _GPS_IFD: exif.get_ifd(_GPS_IFD)}.get(tag, value)
        return kept.tobytes() if len(kept) else None
    except Exception as error:  # noqa: BLE001 - damaged metadata must not cost the photo
        logger.warning("unreadable EXIF left out: %s", one_line(error))
        return None


def fit_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """Bring the picture's size in EXIF to this width and height, where it is told there."""
    data = _loaded(exif)
    if data is None:
        return exif
    details = _details(data)
    wanted = {k: v for k, v in zip(_PIXEL_SIZE, size, strict=True) if k in details}
    if all(details[tag] == value for tag, value in wanted.items()):
        return exif
    data[_EXIF_IFD] = {**details, **wanted}
    return data.tobytes()


def without_maker_note(exif: bytes) -> bytes | None:
    """EXIF without the camera maker's own part, by far the largest; None if it has none."""
    data = _loaded(exif)
    details = {} if data is None else _details(data)
    if data is None or details.pop(_MAKER_NOTE, None) is None:
        return None
    data[_EXIF_IFD] = details
    return data.tobytes()


def is_adobe_rgb(image: Image.Image) -> bool:
    """Tell whether a camera wrote Adobe RGB in the way of cameras: by EXIF, without a profile."""
    try:
        details = _details(image.getexif())
    except Exception:  # noqa: BLE001 - as in exif_bytes, which says it
        return False
    interop = details.get(_INTEROP_IFD, {})
    index = interop.get(1) if isinstance(interop, dict) else None
    return details.get(_COLOR_SPACE) == 0xFFFF and str(index).rstrip("\0") == "R03"


def xmp_bytes(image: Image.Image) -> bytes | None:
    """XMP as Pillow found it; PNG has it as text."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        return xmp.encode("utf-8", "surrogateescape")
    return xmp if isinstance(xmp, bytes) else None


def iptc_of_jpeg(image: Image.Image) -> bytes | None:
    """IPTC's records, which press photos carry, of a JPEG."""
    resources = image.info.get("photoshop")
    records = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
    return records if isinstance(records, bytes) and records else None


def iptc_of_tiff(value: bytes | None) -> bytes | None:
    """The same from a TIFF's tag, whose bytes some programs turn by fours."""
    if value and value[:1] != _IPTC_START and value[3:4] == _IPTC_START:
        whole = value[: len(value) // 4 * 4]
        value = b"".join(whole[i : i + 4][::-1] for i in range(0, len(whole), 4))
    return value if value and value[:1] == _IPTC_START else None


def iptc_segment(records: bytes) -> bytes:
    """IPTC's records as a part of a JPEG file."""
    body = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(records))
    body += records + bytes(len(records) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def comment_bytes(image: Image.Image) -> bytes | None:
    """The comment of a JPEG or a GIF."""
    comment = image.info.get("comment")
    return comment if isinstance(comment, bytes) and comment.strip(b"\0 ") else None


def tiff_tags(exif: bytes | None, xmp: bytes | None, iptc: bytes | None) -> dict[int, Any]:
    """EXIF, XMP and IPTC as the tags of a TIFF, parts of EXIF as dicts."""
    data = Image.Exif()
    if exif:
        data.load(exif)
    tags = dict(data)
    parts = {_EXIF_IFD: _details(data), _GPS_IFD: data.get_ifd(_GPS_IFD), _XMP_TAG: xmp}
    tags |= {**parts, IPTC_TAG: iptc}
    return {tag: value for tag, value in tags.items() if value not in (None, {}, b"")}


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, where a file says something sensible."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    sensible = all(math.isfinite(value) and 1 <= value <= 100_000 for value in (across, down))
    return (across, down) if sensible else None


def add_settings(exif: bytes | None, settings: Mapping[str, Any]) -> bytes:
    """Write into EXIF that a picture was made here, and how.

    How it was made becomes EXIF's user comment, unless the photo has its own there.

    Args:
        exif: the photo's EXIF, or None.
        settings: what JSON can hold.
    """
    data = (_loaded(exif) if exif else None) or Image.Exif()
    data[_PROGRAM] = _OURS
    details = _details(data)
    own = details.get(_USER_COMMENT, b"")
    if isinstance(own, bytes) and (not own[8:].strip(b"\0 ") or _settings(own) is not None):
        details[_USER_COMMENT] = _ASCII + json.dumps({_OURS: dict(settings)}).encode()
    if details:
        data[_EXIF_IFD] = details
    return data.tobytes()


def read_settings(picture: Image.Image) -> dict[str, Any] | None:
    """Give back how a picture was made.

    Args:
        picture: as `read_picture` returns it.

    Returns:
        What was given to `write_picture` as settings; None where the picture has none.
    """
    data = _loaded(picture.info.get("exif", b""))
    return None if data is None else _settings(_details(data).get(_USER_COMMENT))


def is_ours(image: Image.Image) -> bool:
    """Tell whether an opened picture was made here, by what :func:`add_settings` left.

    Nothing is decoded: Pillow would do that to look for EXIF behind a PNG's pixels.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        exif = image.getexif()
        program = exif.get(_PROGRAM)
        comment = _details(exif).get(_USER_COMMENT)
    except Exception:  # noqa: BLE001 - of damaged metadata nothing is known
        return False
    return program == _OURS or _settings(comment) is not None


def _settings(comment: Any) -> dict[str, Any] | None:
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    try:
        settings = json.loads(comment[len(_ASCII) :])[_OURS]
    except (ValueError, KeyError, TypeError, RecursionError):  # anybody may write a comment
        return None
    return settings if isinstance(settings, dict) else None


def _loaded(exif: bytes) -> Image.Exif | None:
    """EXIF parsed; None for damage."""
    data = Image.Exif()
    try:
        data.load(exif)
        data.get_ifd(_EXIF_IFD)
    except Exception:  # noqa: BLE001 - damaged metadata makes the parser raise anything
        return None
    return data


def _details(exif: Image.Exif) -> dict[int, Any]:
    """The Exif part, with the interoperability part inside in place of the pointer to it."""
    details = dict(exif.get_ifd(_EXIF_IFD))
    if _INTEROP_IFD in details:
        interop = exif.get_ifd(_INTEROP_IFD)
        if interop:
            details[_INTEROP_IFD] = dict(interop)
        else:  # a pointer to nowhere
            del details[_INTEROP_IFD]
    return details
