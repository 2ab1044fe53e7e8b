"""ICC profiles for color spaces given by their parameters."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

Point = tuple[float, float]  # CIE xy

D65: Point = (0.3127, 0.329)
_D50 = (0.9642, 1.0, 0.8249)  # XYZ, the white of every ICC profile
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


@dataclass(frozen=True)
class Curve:
    """Transfer curve from stored values to light: ``(a x + b) ** gamma`` from `d`, ``c x`` below.

    Attributes:
        gamma: the exponent.
        a: see above.
        b: see above.
        c: see above.
        d: see above; 0 for a pure power law.
    """

    gamma: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


@dataclass(frozen=True)
class Colors:
    """A color space, given by its parameters.

    Attributes:
        red: chromaticity of the red primary.
        green: chromaticity of the green primary.
        blue: chromaticity of the blue primary.
        curve: transfer curve, the same for each channel.
        white: chromaticity of the white point.
    """

    red: Point
    green: Point
    blue: Point
    curve: Curve
    white: Point = D65

    def is_nearly(self, other: Colors) -> bool:
        """Tell whether two color spaces look the same, as software rounds the numbers."""
        points = ("red", "green", "blue", "white")
        near = (
            abs(mine - theirs) < 2e-3
            for name in points
            for mine, theirs in zip(getattr(self, name), getattr(other, name), strict=True)
        )
        return self.curve == other.curve and all(near)


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB = Colors((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), SRGB_CURVE)
DISPLAY_P3 = Colors((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), SRGB_CURVE)
ADOBE_RGB = Colors((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), Curve(563 / 256))


@lru_cache(maxsize=16)
def make_profile(colors: Colors, *, gray: bool = False) -> bytes | None:
    """Make an ICC profile, with the same bytes every time.

    Args:
        colors: the color space.
        gray: whether it is for pictures with one channel.

    Returns:
        The profile; None if the parameters are invalid.
    """
    import numpy as np

    try:
        white = _xyz(colors.white)
        primaries = np.array([_xyz(p) for p in (colors.red, colors.green, colors.blue)]).T
        scales = np.linalg.solve(primaries, white)
        bradford = np.array(_BRADFORD)
        cones = np.diag((bradford @ _D50) / (bradford @ white))
        adapt = np.linalg.inv(bradford) @ cones @ bradford
        columns = (adapt @ (primaries * scales)).T
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    numbers = [*adapt.ravel(), *columns.ravel(), *vars(colors.curve).values()]
    if not (np.isfinite(numbers).all() and np.abs(numbers).max() < 1000):
        return None
    curve = vars(colors.curve)
    kind, names = (3, "gamma a b c d") if colors.curve.d else (0, "gamma")
    light = b"para" + struct.pack(">4xHxx", kind) + _fixed(*(curve[n] for n in names.split()))
    tags = {
        b"desc": _text("colors as described by the file"),
        b"cprt": _text("no copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(*adapt.ravel()),
    }
    if gray:
        tags[b"kTRC"] = light
    else:
        for letter, column in zip("rgb", columns, strict=True):
            tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + _fixed(*column)
            tags[f"{letter}TRC".encode()] = light
    return _assemble(b"GRAY" if gray else b"RGB ", tags)


def _assemble(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    places: dict[bytes, int] = {}  # write equal data once
    directory, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        directory += struct.pack(">4sII", name, places[data], len(data))
    date = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header = struct.pack(
        ">I4xI4s4s4s12s4s", start + len(body), 0x04200000, b"mntr", space, b"XYZ ", date, b"acsp"
    )
    header += struct.pack(">24xI12s", 1, _fixed(*_D50))  # 1: relative colorimetric
    return header.ljust(128, b"\0") + directory + body


def _text(words: str) -> bytes:
    data = words.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(data), 28) + data


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(65536 * float(number))) for number in numbers)


def _xyz(point: Point) -> tuple[float, float, float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y
