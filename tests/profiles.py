"""Colour profiles for tests, made here."""

from __future__ import annotations

import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from skimage.color import lab2rgb, rgb2lab

from clipmamba.io import srgb_profile

_DISPLAY_P3 = {  # colorants of Display P3 under D50; its curve is sRGB's
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


def display_p3_profile() -> bytes:
    """An ICC profile of Display P3: that of sRGB with other primaries."""
    profile = bytearray(srgb_profile())
    for name, values in _DISPLAY_P3.items():
        numbers = (round(65536 * value) for value in values)
        struct.pack_into(">iii", profile, _places(profile)[name] + 8, *numbers)
    return bytes(profile)


def swapped_profile() -> bytes:
    """An ICC profile whose primaries are sRGB's in another order: green is stored as red."""
    profile = bytearray(srgb_profile())
    red, green = (_places(profile)[name] for name in (b"rXYZ", b"gXYZ"))
    profile[red : red + 20], profile[green : green + 20] = (
        profile[green : green + 20],
        profile[red : red + 20],
    )
    return bytes(profile)


def _places(profile: bytearray) -> dict[bytes, int]:
    """Where each tag's data begins."""
    entries = (struct.unpack_from(">4sI", profile, 132 + 12 * i) for i in range(profile[131]))
    return dict(entries)


def cmyk_profile() -> bytes:
    """An ICC profile of naive inks (white minus ink, minus black), made of two small tables."""

    def table(grid: NDArray[np.float64], inputs: int, outputs: int, points: int) -> bytes:
        straight = bytes(range(256))
        matrix = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
        start = struct.pack(">4s4xBBBx", b"mft1", inputs, outputs, points) + matrix
        cells = np.rint(grid.clip(0, 1) * 255).astype(np.uint8).tobytes()
        return start + straight * inputs + cells + straight * outputs

    c, m, y, k = np.meshgrid(*[np.linspace(0, 1, 5)] * 4, indexing="ij")
    paper = np.stack([(1 - ink) * (1 - k) for ink in (c, m, y)], -1).reshape(-1, 1, 3)
    seen = (rgb2lab(paper)[:, 0] + [0, 128, 128]) / [100, 255, 255]
    axes = np.linspace(0, 100, 17), *[np.linspace(-128, 127, 17)] * 2
    lab = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # colours that no screen shows
        rgb = lab2rgb(lab)[:, 0]
    black = 1 - rgb.max(-1, keepdims=True)
    inks = np.concatenate([(1 - rgb - black) / np.maximum(1 - black, 1e-6), black], -1)
    text = b"text\0\0\0\0test\0\0\0\0"
    tags = {
        b"cprt": text,
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(79),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061),
        b"A2B0": table(seen, 4, 3, 5),
        b"B2A0": table(inks, 3, 4, 17),
    }
    directory, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        directory += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data
    size = 128 + len(directory) + len(body)
    header = struct.pack(">I4sI4s4s4s12s4s", size, b"", 0x02400000, b"prtr", b"CMYK", b"Lab ",
                         struct.pack(">6H", 2000, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    header += bytes(68 - len(header)) + struct.pack(">iii", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + directory + body
