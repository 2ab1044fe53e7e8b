"""Sixteen bits a channel, in and out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from profiles import display_p3_profile

from clipmamba.io import from_srgb, read_picture, read_settings, srgb_profile, to_srgb
from clipmamba.io import write_picture as write
from clipmamba.io.deep import attach, deep_levels

ORIENTATION, MAKE = 274, 271


def noise(bands: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (21, 34, bands), np.uint16)


def ramp(low: float, high: float) -> np.ndarray:
    """Slowly rising colours (64, 512, 3), far finer than 8 bits."""
    grey = np.linspace(low, high, 64 * 512).reshape(64, 512, 1)
    return (grey * [1, 0.9, 0.8]).round().astype(np.uint16)


def tagged(levels: np.ndarray, profile: bytes) -> Image.Image:
    image = Image.fromarray((levels >> 8).astype(np.uint8))
    image.info["icc_profile"] = profile
    return attach(image, levels)


def png(levels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A 16-bit PNG without any library."""
    height, width = levels.shape[:2]
    kind = {2: 0, 3: 2, 4: 6}[levels.ndim if levels.ndim == 2 else levels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    return data


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"tile": (16, 16), "compression": "zlib"},
    ],
)
def test_tiff_is_read_to_the_last_bit(tmp_path: Path, bands: int, options: dict) -> None:
    extra = {"extrasamples": ["unassalpha"]} if bands == 4 else {}
    tifffile.imwrite(tmp_path / "in.tif", noise(bands), photometric="rgb", **extra, **options)
    picture = read_picture(tmp_path / "in.tif")
    np.testing.assert_array_equal(deep_levels(picture), noise(bands))
    np.testing.assert_array_equal(np.asarray(picture), noise(bands) >> 8)


@pytest.mark.parametrize("bands", [3, 4])
def test_png_is_read_to_the_last_bit(bands: int) -> None:
    picture = read_picture(io.BytesIO(png(noise(bands))))
    np.testing.assert_array_equal(deep_levels(picture), noise(bands))


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_what_is_written_comes_back_with_all_it_carries(
    tmp_path: Path, bands: int, extension: str
) -> None:
    picture = read_picture(io.BytesIO(png(noise(bands))))
    exif = Image.Exif()
    exif[MAKE] = "Camera"
    picture.info = {"exif": exif.tobytes(), "xmp": b"<x/>", "icc_profile": srgb_profile(),
                    "dpi": (240, 240)}  # fmt: skip
    file = tmp_path / f"out.{extension}"
    write(picture, file, settings={"prompt": "oil"})
    again = read_picture(file)
    np.testing.assert_array_equal(deep_levels(again), noise(bands))
    if extension == "tif":  # another reader agrees
        np.testing.assert_array_equal(tifffile.imread(file), noise(bands))
    assert again.getexif()[MAKE] == "Camera"
    assert (again.info["xmp"], again.info["icc_profile"]) == (b"<x/>", srgb_profile())
    assert tuple(map(round, again.info["dpi"])) == (240, 240)
    assert read_settings(again) == {"prompt": "oil"}
    write(picture, tmp_path / f"bare.{extension}", metadata="none")
    assert set(read_picture(tmp_path / f"bare.{extension}").info) <= {"dpi"}


def test_a_large_png_is_one_stream(tmp_path: Path) -> None:
    levels = np.random.default_rng(1).integers(0, 65536, (600, 20, 3), np.uint16)  # three strips
    write(read_picture(io.BytesIO(png(levels))), tmp_path / "out.png")
    np.testing.assert_array_equal(deep_levels(read_picture(tmp_path / "out.png")), levels)


def test_other_formats_get_eight_bits(tmp_path: Path) -> None:
    levels = ramp(0, 65535)
    write(read_picture(io.BytesIO(png(levels))), tmp_path / "out.jpg")
    shown = np.asarray(read_picture(tmp_path / "out.jpg"), float)
    assert np.abs(shown - levels / 257).mean() < 1.5


def test_the_way_through_floats_loses_nothing() -> None:
    for bands in (3, 4):
        picture = read_picture(io.BytesIO(png(noise(bands))))
        pixels, alpha = to_srgb(picture)
        result = deep_levels(from_srgb(pixels, alpha, like=picture))
        visible = np.ones((21, 34), bool) if alpha is None else np.asarray(alpha) > 0
        np.testing.assert_array_equal(result[visible], noise(bands)[visible])


def test_sixteen_bit_grey_gives_sixteen_bit_colour() -> None:
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    picture = read_picture(io.BytesIO(png(levels)))
    result = deep_levels(from_srgb(to_srgb(picture)[0], like=picture))
    np.testing.assert_array_equal(result, np.dstack([levels] * 3))


def linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(values: np.ndarray) -> np.ndarray:
    root = np.clip(values, 1e-9, None) ** (1 / 2.4)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * root - 0.055)


def test_a_wide_profile_is_followed_finely_there_and_back() -> None:
    levels = ramp(20000, 45000)  # colours that sRGB holds too
    picture = tagged(levels, display_p3_profile())
    pixels, _ = to_srgb(picture)
    to_xyz = [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657],
              [-0.00105, 0.04189, 0.78407]]  # fmt: skip
    from_xyz = np.linalg.inv([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061],
                              [0.01392, 0.09708, 0.71410]])  # fmt: skip
    expected = encoded(linear(levels / 65535) @ np.transpose(to_xyz) @ from_xyz.T)
    np.testing.assert_allclose(pixels, expected, atol=0.7 / 255)
    assert len(np.unique(pixels[..., 0])) > 10_000  # with 8 bits there would be about 100
    back = from_srgb(pixels, like=picture)
    assert back.info["icc_profile"] == display_p3_profile()
    np.testing.assert_allclose(deep_levels(back), levels, atol=257)
    assert len(np.unique(deep_levels(back)[..., 0])) > 10_000


def test_a_photo_lying_on_its_side_is_turned_to_the_last_bit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = png(noise(3), (b"eXIf", exif.tobytes()[6:]))
    np.testing.assert_array_equal(
        deep_levels(read_picture(io.BytesIO(data))), np.rot90(noise(3), -1)
    )


@pytest.mark.parametrize("bands", [1, 3])
def test_a_level_that_stands_for_transparency(bands: int) -> None:
    levels = noise(3) if bands == 3 else noise(1)[..., 0]
    hidden = struct.pack(f">{bands}H", *np.atleast_1d(levels[3, 4]).tolist())
    picture = read_picture(io.BytesIO(png(levels, (b"tRNS", hidden))))
    pixels, alpha = to_srgb(picture)
    assert alpha is not None
    assert np.argwhere(np.asarray(alpha) == 0).tolist() == [[3, 4]]
    result = deep_levels(from_srgb(pixels, alpha, like=picture))
    assert result.shape == (21, 34, 4)


def test_a_changed_picture_is_an_ordinary_one() -> None:
    picture = read_picture(io.BytesIO(png(noise(3))))
    assert deep_levels(picture.rotate(180)) is None
    assert deep_levels(picture.crop((0, 0, 9, 9))) is None
    picture.paste((0, 0, 0), (0, 0, 9, 9))
    assert deep_levels(picture) is None
    assert to_srgb(picture)[0][:9, :9].max() == 0
