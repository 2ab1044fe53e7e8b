"""PNG: color chunks, text chunks, and 16-bit gray with transparency."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING

from PIL import Image, PngImagePlugin

from clipmamba.errors import InputError
from clipmamba.io.cicp import cicp_colors, profile_of, refuse_hdr, with_curve
from clipmamba.io.profiles import SRGB, SRGB_CURVE, Colors, Curve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger("clipmamba")

_XMP = "XML:com.adobe.xmp"
_COLOR_CHUNKS = frozenset({b"cICP", b"sRGB", b"gAMA", b"cHRM"})
_USUAL_GAMMA = 45455  # in 1/100,000; approximately sRGB's curve


def color_profile(file: IO[bytes], image: Image.Image, name: str) -> bytes | None:
    """Find the ICC profile of a PNG: embedded, or made from its color chunks.

    Chunks take precedence as in the standard: cICP, iCCP, sRGB, then gAMA and cHRM.

    Args:
        file: the PNG.
        image: the same file, opened.
        name: the picture's name in messages.

    Returns:
        An ICC profile; None for sRGB.

    Raises:
        InputError: the picture is HDR, or not full-range RGB.
    """
    chunks = dict(_chunks(file, _COLOR_CHUNKS))
    gray = image.mode in ("1", "L", "LA", "I", "I;16")
    own: bytes | None = image.info.get("icc_profile")
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full = cicp
        refuse_hdr(transfer, name)
        if matrix != 0 or full != 1:
            raise InputError(f"{name} is not full-range RGB; save it as full-range RGB first")
        if (colors := cicp_colors(primaries, transfer)) is not None:
            return profile_of(colors, gray=gray)
    if own is not None or b"sRGB" in chunks:
        return own
    points = SRGB
    if len(body := chunks.get(b"cHRM", b"")) >= 32:
        x = [value / 100_000 for value in struct.unpack(">8I", body[:32])]
        points = Colors((x[2], x[3]), (x[4], x[5]), (x[6], x[7]), SRGB_CURVE, (x[0], x[1]))
        if points.is_nearly(SRGB):
            points = SRGB
    gamma = struct.unpack(">I", body[:4])[0] if len(body := chunks.get(b"gAMA", b"")) >= 4 else 0
    usual = gamma == 0 or (abs(gamma - _USUAL_GAMMA) < 100 and points == SRGB)
    curve = SRGB_CURVE if usual else Curve(100_000 / gamma)
    return profile_of(with_curve(points, curve), gray=gray)


def texts(image: Image.Image) -> dict[str, str]:
    """Return the text chunks of a loaded PNG, except those that repeat EXIF, XMP or a profile."""
    found: Mapping[str, str] = getattr(image, "text", {})
    return {
        key: str(value)
        for key, value in found.items()
        if key != _XMP and not key.startswith("Raw profile type ")
    }


def text_chunks(found: Mapping[str, str], xmp: bytes | None) -> PngImagePlugin.PngInfo:
    """Pack texts and XMP into Pillow's form of text chunks."""
    info = PngImagePlugin.PngInfo()
    if xmp is not None:
        info.add_itxt(_XMP, xmp.decode("utf-8", "replace"))
    for key, value in found.items():
        info.add_text(key, value)  # in UTF-8 if Latin-1 is not enough
    return info


def gray_alpha_levels(file: IO[bytes]) -> NDArray[np.uint16] | None:
    """Read the 16-bit levels (H, W, 2) of gray and opacity; None for other kinds of PNG.

    Such a pixel has four bytes, like one of 8-bit RGBA: read as RGBA, no byte is lost.

    Raises:
        Exception: the file is damaged; any exception of Pillow's.
    """
    import numpy as np

    file.seek(0)
    data = bytearray(file.read(33))
    if len(data) < 33 or (data[24], data[25]) != (16, 4):
        return None
    data += file.read()
    data[24], data[25] = 8, 6
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.load()
        rows = np.ascontiguousarray(np.asarray(image))
    return rows.view(">u2").astype(np.uint16)


def _chunks(file: IO[bytes], wanted: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of the wanted kinds that come before the pixels."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return
        size, kind = struct.unpack(">I4s", head)
        if kind in wanted:
            yield kind, file.read(min(size, 64))
        place += size + 12
