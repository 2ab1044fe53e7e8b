"""Display time of an animation's last frame, which FFmpeg takes from the frame before."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

_EXTENSION, _IMAGE, _CONTROL = 0x21, 0x2C, 0xF9  # blocks of a GIF


def end_at(path: Path, end: Fraction) -> None:
    """Show the last frame of a GIF or WebP animation until it has run for `end` seconds.

    The encoder of WebP merges equal frames, so what counts is the time that the others take.
    """
    data = bytearray(path.read_bytes())
    if data[:4] == b"RIFF":
        places, size, unit = list(_webp_durations(data)), 3, 1000
    else:
        places, size, unit = list(_gif_durations(data)), 2, 100
    if places:  # a still WebP has none
        *others, last = (slice(place, place + size) for place in places)
        shown = sum(int.from_bytes(data[place], "little") for place in others)
        count = min(max(1, round(end * unit) - shown), 256**size - 1)
        data[last] = count.to_bytes(size, "little")
        path.write_bytes(data)


def _webp_durations(data: bytearray) -> Iterator[int]:
    """Find the duration in every ANMF chunk: 12 bytes of position and size come before it."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == b"ANMF":
            yield at + 8 + 12
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def _gif_durations(data: bytearray) -> Iterator[int]:
    """Find the delay in every graphic control extension."""
    at = 13 + _colors(data[10])
    while at < len(data) and data[at] in (_EXTENSION, _IMAGE):
        if data[at] == _EXTENSION:
            if data[at + 1] == _CONTROL:
                yield at + 4
            at += 2
        else:
            at += 11 + _colors(data[at + 9])
        while data[at]:  # sub-blocks, each after its length
            at += 1 + data[at]
        at += 1


def _colors(flags: int) -> int:
    """Compute the size of a color table in bytes."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
