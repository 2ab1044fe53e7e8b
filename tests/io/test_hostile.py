"""Truncated and hostile files give a picture or one line, never a traceback or a hang."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.io import read_picture, srgb_profile, to_srgb, write_picture
from clipmamba.io.deep import high_bytes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about bad tags

DEEP = ("16-bit PNG", "16-bit TIFF")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000", *DEEP)
BOUNDED = settings(
    max_examples=60,
    deadline=2000,  # milliseconds a file
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def whole(name: str) -> bytes:
    """A small picture with EXIF and a profile, as far as the format takes them."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 36, 3), np.uint8)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Camera"
    file = io.BytesIO()
    if name in DEEP:
        write_picture(high_bytes(pixels * np.uint16(257)), file, file_format=name.split()[1])
        return file.getvalue()
    extra = {"exif": exif.tobytes(), "icc_profile": srgb_profile()}
    known = name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
    Image.fromarray(pixels).save(file, format=name, **(extra if known else {}))
    return file.getvalue()


def read(data: bytes) -> None:
    with contextlib.suppress(InputError):  # anything else is a failure
        to_srgb(read_picture(io.BytesIO(data), max_pixels=10_000_000))


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(part=st.floats(0, 1))
def test_cut_short(name: str, part: float) -> None:
    data = whole(name)
    read(data[: int(part * len(data))])


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=12))
def test_damaged(name: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(whole(name))
    for place, change in flips:
        data[int(place * len(data))] ^= change
    read(bytes(data))


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(noise=st.binary(max_size=300))
def test_a_header_and_then_anything(name: str, noise: bytes) -> None:
    read(whole(name)[:32] + noise)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


HEADER = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
HUGE = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
PIXELS = zlib.compress(bytes(4 * 13))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png((b"IHDR", HUGE), (b"IDAT", PIXELS), (b"IEND", b"")), "pixels"),
        (png((b"IHDR", HEADER), (b"IEND", b"")), "damaged"),
        (png((b"IHDR", HEADER), (b"IDAT", b"no zlib"), (b"IEND", b"")), "damaged"),
        (b"GIF89a" + b"\xff" * 400, "damaged|pixels|known format"),
        (b"P6 99999999 99999999 255\n", "pixels"),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 500, "no pages"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(evil) print", "known format"),
    ],
)
def test_hostile_files_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_picture(io.BytesIO(data))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_text_bomb_in_a_png_does_not_fill_the_memory() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(300_000_000), 9)
    chunks = ((b"IHDR", HEADER), (b"zTXt", bomb), (b"IDAT", PIXELS), (b"IEND", b""))
    with pytest.raises(InputError):
        read_picture(io.BytesIO(png(*chunks)))
