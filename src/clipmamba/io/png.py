"""PNG: colors described by numbers, texts, and 16-bit grey with transparency."""

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
_USUAL_GAMMA = 45455  # of 100,000: sRGB's curve, nearly


def color_profile(file: IO[bytes], image: Image.Image, name: str) -> bytes | None:
    """Find the ICC profile of a PNG: its own, or one that says what its numbers say.

    The order is the standard's: cICP, iCCP, sRGB, then gAMA and cHRM.

    Args:
        file: the PNG.
        image: the same, opened.
        name: what messages call it.

    Returns:
        A profile; None for sRGB.

    Raises:
        InputError: the picture is HDR, or stored as video is.
    """
    chunks = dict(_chunks(file, _COLOR_CHUNKS))
    grey = image.mode in ("1", "L", "LA", "I", "I;16")
    own: bytes | None = image.info.get("icc_profile")
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full = cicp
        refuse_hdr(transfer, name)
        if matrix != 0 or full != 1:
            raise InputError(f"{name} is stored as video is; save it as full-range RGB first")
        if (colors := cicp_colors(primaries, transfer)) is not None:
            return profile_of(colors, grey=grey)
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
    return profile_of(with_curve(points, curve), grey=grey)


def texts(image: Image.Image) -> dict[str, str]:
    """The texts of a loaded PNG, but for those that repeat EXIF, XMP or a profile."""
    found: Mapping[str, str] = getattr(image, "text", {})
    return {
        key: str(value)
        for key, value in found.items()
        if key != _XMP and not key.startswith("Raw profile type ")
    }


def text_chunks(found: Mapping[str, str], xmp: bytes | None) -> PngImagePlugin.PngInfo:
    """Texts and XMP in the form in which Pillow writes them."""
    info = PngImagePlugin.PngInfo()
    if xmp is not None:
        info.add_itxt(_XMP, xmp.decode("utf-8", "replace"))
    for key, value in found.items():
        info.add_text(key, value)  # in UTF-8 where Latin-1 does not do
    return info


def grey_alpha_levels(file: IO[bytes]) -> NDArray[np.uint16] | None:
    """The 16-bit levels (H, W, 2) of grey and opacity; None for another kind of PNG.

    Such a pixel has four bytes, as one of 8-bit RGBA has: read as that, no byte is lost.

    Raises:
        Exception: the file is damaged; any of Pillow's.
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
    """Chunks before the pixels, of the wanted kinds."""
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
