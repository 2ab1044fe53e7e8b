"""Display time of an animation's last frame, which FFmpeg takes from the frame before."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

_EXTENSION, _IMAGE, _CONTROL = 0x21, 0x2C, 0xF9  # blocks of a GIF


def set_last_duration(path: Path, duration: Fraction) -> None:
    """Set the display time of the last frame of a GIF or WebP animation, in seconds.

    The place is found by the file format's blocks; a still picture in WebP has none.
    """
    data = bytearray(path.read_bytes())
    if data[:4] == b"RIFF":
        place, size, unit = _webp_place(data), 3, 1000
    else:
        place, size, unit = _gif_place(data), 2, 100
    if place is not None:
        count = min(max(1, round(duration * unit)), 256**size - 1)
        data[place : place + size] = count.to_bytes(size, "little")
        path.write_bytes(data)


def _webp_place(data: bytearray) -> int | None:
    """Find the duration in the last ANMF chunk: after position and size, 12 bytes."""
    found, at = None, 12
    while at + 8 <= len(data):
        if data[at : at + 4] == b"ANMF":
            found = at + 8 + 12
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return found


def _gif_place(data: bytearray) -> int | None:
    """Find the delay in the last graphic control extension."""
    found, at = None, 13 + _colors(data[10])
    while at < len(data) and data[at] in (_EXTENSION, _IMAGE):
        if data[at] == _EXTENSION:
            if data[at + 1] == _CONTROL:
                found = at + 4
            at += 2
        else:
            at += 11 + _colors(data[at + 9])
        while data[at]:  # sub-blocks, each after its length
            at += 1 + data[at]
        at += 1
    return found


def _colors(flags: int) -> int:
    """Compute the size of a color table in bytes."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
