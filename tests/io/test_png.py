"""A PNG's own words about its colours are followed; its texts and 16 bits of grey stay."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from profiles import display_p3_profile
from skimage import color as skcolor

from clipmamba.errors import InputError
from clipmamba.io import from_srgb, read_picture, srgb_profile, to_srgb, write_picture
from clipmamba.io.deep import deep_levels

KINDS = {("L", 8): 0, ("RGB", 8): 2, ("LA", 8): 4, ("RGBA", 8): 6, ("LA", 16): 4, ("RGB", 16): 2}
P3 = ((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
BT709 = ((0.3127, 0.329), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))


def png(levels: np.ndarray, *chunks: tuple[bytes, bytes], late: tuple = ()) -> bytes:
    """A PNG of (H, W, C) without any library."""
    height, width, bands = levels.shape
    bits = 8 * levels.dtype.itemsize
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), *late, (b"IEND", b""))
    for name, body in parts:
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    return data


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * gamma))


def chrm(points: tuple) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * v) for point in points for v in point))


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def cicp(*numbers: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(numbers)


SRGB_CHUNK = (b"sRGB", b"\0")


def shown(levels: np.ndarray, curve: str | float, points: tuple) -> np.ndarray:
    """sRGB of stored values, by colour science: curve, primaries to XYZ, XYZ to sRGB."""
    values = levels / np.iinfo(levels.dtype).max
    if curve == "srgb":
        light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    else:
        light = values ** float(curve)
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    matrix = np.transpose(primaries)
    matrix = matrix * np.linalg.solve(matrix, white)
    return skcolor.xyz2rgb(light @ matrix.T)  # clips


SAMPLE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
GREENISH = (SAMPLE // 3 + [80, 90, 75]).astype(np.uint8)  # inside sRGB in any of these spaces
TABLE = {
    "nothing": ((), "srgb", BT709),
    "sRGB": ((SRGB_CHUNK,), "srgb", BT709),
    "the usual gamma": ((gama(0.45455),), "srgb", BT709),
    "the usual gamma and primaries": ((gama(0.45455), chrm(BT709)), "srgb", BT709),
    "linear": ((gama(1.0),), 1, BT709),
    "gamma 1.8": ((gama(1 / 1.8),), 1.8, BT709),
    "wide primaries alone": ((chrm(P3),), "srgb", P3),
    "wide primaries, usual gamma": ((gama(0.45455), chrm(P3)), 1 / 0.45455, P3),
    "sRGB wins over gamma": ((gama(1.0), chrm(P3), SRGB_CHUNK), "srgb", BT709),
    "a profile wins over sRGB": ((iccp(display_p3_profile()), SRGB_CHUNK), "srgb", P3),
    "a profile wins over gamma": ((iccp(srgb_profile()), gama(1.0)), "srgb", BT709),
    "cICP sRGB": ((cicp(1, 13, 0, 1),), "srgb", BT709),
    "cICP P3": ((cicp(12, 13, 0, 1),), "srgb", P3),
    "cICP linear": ((cicp(1, 8, 0, 1),), 1, BT709),
    "cICP wins over all": (
        (cicp(12, 13, 0, 1), iccp(srgb_profile()), SRGB_CHUNK, gama(1.0)), "srgb", P3,
    ),
    "cICP of unknown numbers is passed over": ((cicp(200, 13, 0, 1), gama(1.0)), 1, BT709),
    "gamma 0 is damage": ((gama(0),), "srgb", BT709),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGB;16", "L"])
def test_the_table(case: str, mode: str) -> None:
    chunks, curve, points = TABLE[case]
    levels = GREENISH
    if mode == "L":
        if "profile" in case or "all" in case:
            pytest.skip("an RGB profile does not fit gray")
        levels = levels[..., :1]
    if mode == "RGBA":
        levels = np.dstack([levels, np.full((24, 32), 255, np.uint8)])
    if mode == "RGB;16":
        levels = levels * np.uint16(257)
    pixels, _ = to_srgb(read_picture(png(levels, *chunks)))
    colors = np.repeat(levels, 3, axis=2) if mode == "L" else levels[..., :3]
    np.testing.assert_allclose(pixels, shown(colors, curve, points), atol=2.1 / 255)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((9, 16, 0, 1), "HDR picture .PQ."),
        ((9, 18, 0, 1), "HDR picture .HLG."),
        ((1, 1, 1, 1), "full-range RGB"),
        ((1, 13, 0, 0), "full-range RGB"),
    ],
)
def test_what_would_look_wrong_is_refused(numbers: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_picture(png(SAMPLE, cicp(*numbers)))


@pytest.mark.parametrize("case", ["linear", "wide primaries alone"])
def test_a_result_keeps_the_colours_that_were_described(case: str, tmp_path) -> None:
    chunks, curve, points = TABLE[case]
    photo = read_picture(png(GREENISH, *chunks))
    write_picture(photo, tmp_path / "same.png")
    pixels, _ = to_srgb(photo)
    write_picture(from_srgb(pixels, like=photo), tmp_path / "out.png")
    for name in ("same.png", "out.png"):
        again, _ = to_srgb(read_picture(tmp_path / name))
        np.testing.assert_allclose(again, shown(GREENISH, curve, points), atol=4 / 255)


@pytest.mark.parametrize(
    "body", [struct.pack(">8I", *[0] * 8), struct.pack(">8I", *[2**31 - 1] * 8), b"\0" * 5]
)
def test_nonsense_about_colours_is_passed_over(body: bytes) -> None:
    with_nonsense = png(SAMPLE, (b"cHRM", body.ljust(32, b"\0")), gama(0.45455))
    pixels, _ = to_srgb(read_picture(with_nonsense))
    np.testing.assert_allclose(pixels, SAMPLE / 255, atol=1 / 255)


def test_grey_with_transparency_keeps_its_sixteen_bits() -> None:
    levels = np.random.default_rng(1).integers(0, 65536, (21, 34, 2), np.uint16)
    exif = Image.Exif()
    for orientation, upright in ((1, levels), (6, np.rot90(levels, -1))):
        exif[274] = orientation
        picture = read_picture(png(levels, (b"eXIf", exif.tobytes()[6:])))
        np.testing.assert_array_equal(deep_levels(picture), upright[..., [0, 0, 0, 1]])


@pytest.mark.parametrize("late", [False, True])
def test_texts_stay(late: bool, tmp_path) -> None:
    chunks = (
        (b"tEXt", b"Title\0Summer"),
        (b"iTXt", b"Author\0\0\0\0\0" + "浮世".encode()),
        (b"tEXt", b"Raw profile type exif\0" + b"exif 8 0000"),
    )
    data = png(SAMPLE, late=chunks) if late else png(SAMPLE, *chunks)
    photo = read_picture(data)
    pixels, _ = to_srgb(photo)
    write_picture(from_srgb(pixels, like=photo), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        written.load()
        assert written.text == {"Title": "Summer", "Author": "浮世"}
    write_picture(photo, tmp_path / "bare.png", metadata="none")
    assert b"Summer" not in (tmp_path / "bare.png").read_bytes()


def test_every_chunk_may_be_cut_short() -> None:
    chunks = (cicp(12, 13, 0, 1), iccp(srgb_profile()), SRGB_CHUNK, gama(1.0), chrm(P3))
    for (name, body), length in itertools.product(chunks, (0, 1, 3)):
        with contextlib.suppress(InputError):  # anything else is a failure
            read_picture(io.BytesIO(png(SAMPLE, (name, body[:length]))))
