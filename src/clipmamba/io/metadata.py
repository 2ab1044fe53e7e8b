"""Metadata: EXIF, XMP, IPTC, comments; and the settings recorded in a result."""

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

# Tags that describe the pixel layout of the old file; copied, they would corrupt the new one.
# 274 is the orientation (applied on reading), 700 XMP, 33723 IPTC and 34675 the ICC profile (each
# handled separately), 37724 Photoshop's layers, which no longer match the result.
_LAYOUT_TAGS = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(284, 288, 289, 290, 291, 292, 293, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 332),
        *(338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
        *(700, 33723, 34377, 34675, 37724),
    }
)
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005  # the last is inside the first
_PIXEL_SIZE = (0xA002, 0xA003)  # in the Exif directory; width and height of the upright picture
_COLOR_SPACE, _MAKER_NOTE, _USER_COMMENT, _PROGRAM = 0xA001, 0x927C, 0x9286, 0x000B
_ASCII = b"ASCII\0\0\0"  # encoding prefix of a user comment
_XMP_TAG, IPTC_TAG = 700, 33723  # TIFF tags
_IPTC_START = b"\x1c"
_IPTC_RESOURCE = 0x0404  # in a JPEG's Photoshop segment
_OURS = "clipmamba"


def exif_bytes(image: Image.Image, size: tuple[int, int]) -> bytes | None:
    """Serialize EXIF for an upright picture, without pixel layout and the old thumbnail."""
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
    """Update the picture's size in EXIF to this width and height, if EXIF has it."""
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
    """Strip the maker note, by far the largest part of EXIF; None if there is none."""
    data = _loaded(exif)
    details = {} if data is None else _details(data)
    if data is None or details.pop(_MAKER_NOTE, None) is None:
        return None
    data[_EXIF_IFD] = details
    return data.tobytes()


def is_adobe_rgb(image: Image.Image) -> bool:
    """Tell whether EXIF declares Adobe RGB, as cameras do in place of a profile."""
    try:
        details = _details(image.getexif())
    except Exception:  # noqa: BLE001 - exif_bytes warns about it
        return False
    interop = details.get(_INTEROP_IFD, {})
    index = interop.get(1) if isinstance(interop, dict) else None
    return details.get(_COLOR_SPACE) == 0xFFFF and str(index).rstrip("\0") == "R03"


def xmp_bytes(image: Image.Image) -> bytes | None:
    """Return XMP as Pillow found it, or None; in a PNG it is a text chunk."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        return xmp.encode("utf-8", "surrogateescape")
    return xmp if isinstance(xmp, bytes) else None


def iptc_of_jpeg(image: Image.Image) -> bytes | None:
    """Return the IPTC records of a JPEG, or None."""
    resources = image.info.get("photoshop")
    records = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
    return records if isinstance(records, bytes) and records else None


def iptc_of_tiff(value: bytes | None) -> bytes | None:
    """Return the IPTC records from a TIFF tag, or None; undoes the 32-bit swap of some programs."""
    if value and value[:1] != _IPTC_START and value[3:4] == _IPTC_START:
        whole = value[: len(value) // 4 * 4]
        value = b"".join(whole[i : i + 4][::-1] for i in range(0, len(whole), 4))
    return value if value and value[:1] == _IPTC_START else None


def iptc_segment(records: bytes) -> bytes:
    """Pack IPTC records into a JPEG segment."""
    body = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(records))
    body += records + bytes(len(records) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def comment_bytes(image: Image.Image) -> bytes | None:
    """Return the comment of a JPEG or GIF, or None."""
    comment = image.info.get("comment")
    return comment if isinstance(comment, bytes) and comment.strip(b"\0 ") else None


def tiff_tags(exif: bytes | None, xmp: bytes | None, iptc: bytes | None) -> dict[int, Any]:
    """Convert EXIF, XMP and IPTC to TIFF tags, with EXIF's directories as dicts."""
    data = Image.Exif()
    if exif:
        data.load(exif)
    tags = dict(data)
    parts = {_EXIF_IFD: _details(data), _GPS_IFD: data.get_ifd(_GPS_IFD), _XMP_TAG: xmp}
    tags |= {**parts, IPTC_TAG: iptc}
    return {tag: value for tag, value in tags.items() if value not in (None, {}, b"")}


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution in dots per inch, or None if it is missing or implausible."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    sensible = all(math.isfinite(value) and 1 <= value <= 100_000 for value in (across, down))
    return (across, down) if sensible else None


def add_settings(exif: bytes | None, settings: Mapping[str, Any]) -> bytes:
    """Record in EXIF that a picture was made by clipmamba, and with which settings.

    The settings go into the user comment, unless the photo has a comment of its own.

    Args:
        exif: the photo's EXIF, or None.
        settings: JSON-serializable settings.
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
    """Read the settings recorded in a picture.

    Args:
        picture: as `read_picture` returns it.

    Returns:
        The settings given to `write_picture`; None if the picture has none.
    """
    data = _loaded(picture.info.get("exif", b""))
    return None if data is None else _settings(_details(data).get(_USER_COMMENT))


def is_ours(image: Image.Image) -> bool:
    """Tell whether an opened picture was made by clipmamba, by the record of `add_settings`.

    No pixels are decoded, as Pillow would do to look for EXIF after a PNG's pixels.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        exif = image.getexif()
        program = exif.get(_PROGRAM)
        comment = _details(exif).get(_USER_COMMENT)
    except Exception:  # noqa: BLE001 - damaged metadata
        return False
    return program == _OURS or _settings(comment) is not None


def _settings(comment: Any) -> dict[str, Any] | None:
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    try:
        settings = json.loads(comment[len(_ASCII) :])[_OURS]
    except (ValueError, KeyError, TypeError, RecursionError):  # somebody else's comment
        return None
    return settings if isinstance(settings, dict) else None


def _loaded(exif: bytes) -> Image.Exif | None:
    """Parse EXIF; None if it is damaged."""
    data = Image.Exif()
    try:
        data.load(exif)
        data.get_ifd(_EXIF_IFD)
    except Exception:  # noqa: BLE001 - damaged metadata makes the parser raise anything
        return None
    return data


def _details(exif: Image.Exif) -> dict[int, Any]:
    """Return the Exif directory, with the interoperability directory in place of its pointer."""
    details = dict(exif.get_ifd(_EXIF_IFD))
    if _INTEROP_IFD in details:
        interop = exif.get_ifd(_INTEROP_IFD)
        if interop:
            details[_INTEROP_IFD] = dict(interop)
        else:  # a pointer to nowhere
            del details[_INTEROP_IFD]
    return details
