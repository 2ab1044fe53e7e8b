"""HEIC and AVIF: color code points in the file's boxes (ISO/IEC 23008-12, 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from clipmamba.io.cicp import cicp_colors, profile_of, refuse_hdr

_LONGEST = 1 << 24  # limit on the size of the `meta` box, in bytes
_VIDEO_CURVES = (1, 6, 14, 15)  # most encoders write them for sRGB, and browsers show them as sRGB
_SRGB = 13


def color_profile(file: IO[bytes], own: bytes | None, name: str) -> bytes | None:
    """Find the ICC profile of a HEIC or AVIF file: embedded, or made from its color code points.

    Args:
        file: the picture; its position is kept.
        own: the embedded profile, if any.
        name: the picture's name in messages.

    Returns:
        An ICC profile; None for sRGB.

    Raises:
        InputError: the picture is HDR.
    """
    numbers = _primary_numbers(file)
    if numbers is None:
        return own
    primaries, transfer = numbers
    refuse_hdr(transfer, name)
    if own is not None:
        return own
    colors = cicp_colors(primaries, _SRGB if transfer in _VIDEO_CURVES else transfer)
    return None if colors is None else profile_of(colors)


def _primary_numbers(file: IO[bytes]) -> tuple[int, int] | None:
    """Read color primaries and transfer function of the primary image; None if not given.

    Other images in the file (a gain map, an HDR rendering, transparency) have their own.
    """
    place = file.tell()
    try:
        meta = _description(file)
        if meta is None:
            return None
        boxes = dict(_boxes(meta[4:]))
        item = struct.unpack_from(">I" if boxes[b"pitm"][0] else ">H", boxes[b"pitm"], 4)[0]
        iprp = list(_boxes(boxes[b"iprp"]))
        properties = [prop for kind, body in iprp if kind == b"ipco" for prop in _boxes(body)]
        for kind, body in iprp:
            for index in _properties_of(item, body) if kind == b"ipma" else ():
                kind_of, value = properties[index - 1]
                if kind_of == b"colr" and value[:4] == b"nclx":
                    primaries, transfer = struct.unpack_from(">HH", value, 4)
                    return primaries, transfer
    except (struct.error, KeyError, IndexError):
        return None  # the decoder will report what is wrong with the file
    finally:
        file.seek(place)
    return None


def _description(file: IO[bytes]) -> bytes | None:
    """Read the body of the file's `meta` box."""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        length = 8
        if size == 1:
            size, length = struct.unpack(">Q", file.read(8))[0], 16
        if kind == b"meta":
            return file.read(size - length) if length <= size <= _LONGEST else None
        if size < length:  # 0 means to the end of the file
            return None
        file.seek(size - length, 1)
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8:
            return
        yield kind, data[place + 8 : place + size]
        place += size


def _properties_of(item: int, body: bytes) -> Iterator[int]:
    """Yield the indices, from 1, of an item's properties in an `ipma` box."""
    wide_items, wide_indices = body[0] > 0, body[3] & 1
    count, place = struct.unpack_from(">I", body, 4)[0], 8
    for _ in range(count):
        number = struct.unpack_from(">I" if wide_items else ">H", body, place)[0]
        place += 4 if wide_items else 2
        entries = body[place]
        place += 1
        for _ in range(entries):
            if wide_indices:
                index = struct.unpack_from(">H", body, place)[0] & 0x7FFF
            else:
                index = body[place] & 0x7F
            place += 2 if wide_indices else 1
            if number == item and index:
                yield index
