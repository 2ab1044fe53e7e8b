"""What a photo carries beside its pixels comes through, and how it was made goes with it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.io import from_srgb, read_picture, read_settings, to_srgb, write_picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="Summer"/></rdf:RDF></x:xmpmeta>'
)
EXIF, USER_COMMENT = 0x8769, 0x9286
SETTINGS = {"prompt": "ukiyo-e \u6d6e\u4e16\u7d75", "strength": 0.8, "seed": None}


@pytest.fixture
def carrying(photo: Image.Image) -> Image.Image:
    """A photo with a description, XMP and a resolution."""
    exif = Image.Exif()
    exif[270] = "On the beach"
    photo.info.update(exif=exif.tobytes(), xmp=XMP, dpi=(300, 300))
    return photo


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp", "avif"])
def test_xmp_and_resolution_survive(tmp_path: Path, carrying: Image.Image, extension: str) -> None:
    first, second = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    write_picture(carrying, first)
    picture = read_picture(first)
    pixels, alpha = to_srgb(picture)
    write_picture(from_srgb(pixels, alpha, like=picture), second)
    again = read_picture(second)
    assert again.info["xmp"].rstrip(b"\0") == XMP
    if extension not in ("webp", "avif"):  # they have no place for it
        assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    with Image.open(second) as written:
        assert written.getexif()[270] == "On the beach"


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp", "avif"])
@pytest.mark.parametrize("metadata", ["color", "none"])
def test_what_is_not_kept_is_gone(
    tmp_path: Path, carrying: Image.Image, extension: str, metadata: str
) -> None:
    file = tmp_path / f"a.{extension}"
    write_picture(carrying, file, metadata=metadata, settings=SETTINGS)
    data = file.read_bytes()
    for secret in (b"beach", b"Summer", b"ukiyo", b"clipmamba"):
        assert secret not in data


def test_an_orientation_said_by_xmp_alone_is_applied_once(tmp_path: Path, photo) -> None:
    turned = XMP.replace(b"<rdf:Description ", b'<rdf:Description xmlns:tiff="t" '
                         b'tiff:Orientation="6" ')  # fmt: skip
    photo.save(tmp_path / "in.jpg", xmp=turned)
    picture = read_picture(tmp_path / "in.jpg")
    assert picture.size == (32, 48)
    write_picture(picture, tmp_path / "out.jpg")
    assert read_picture(tmp_path / "out.jpg").size == (32, 48)


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp", "avif"])
def test_settings_come_back(tmp_path: Path, carrying: Image.Image, extension: str) -> None:
    file = tmp_path / f"a.{extension}"
    write_picture(carrying, file, settings=SETTINGS)
    assert read_settings(read_picture(file)) == SETTINGS
    with Image.open(file) as written:  # any tool can read them
        comment = written.getexif().get_ifd(EXIF)[USER_COMMENT]
    assert json.loads(comment[8:])["clipmamba"] == SETTINGS


def test_a_photos_own_comment_is_not_lost(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[EXIF] = {USER_COMMENT: b"ASCII\0\0\0my holiday"}
    photo.info["exif"] = exif.tobytes()
    write_picture(photo, tmp_path / "a.jpg", settings=SETTINGS)
    picture = read_picture(tmp_path / "a.jpg")
    assert b"my holiday" in picture.info["exif"]
    assert read_settings(picture) is None


@pytest.mark.parametrize(
    "comment", [b"", b"ASCII\0\0\0{", b'ASCII\0\0\0{"a": 1}', b"ASCII\0\0\0[]"]
)
def test_no_settings_is_none(photo: Image.Image, comment: bytes) -> None:
    assert read_settings(photo) is None
    exif = Image.Exif()
    exif[EXIF] = {USER_COMMENT: comment}
    photo.info["exif"] = exif.tobytes()
    assert read_settings(photo) is None


def test_metadata_too_long_for_jpeg_costs_a_warning_not_the_picture(
    tmp_path: Path, photo: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    photo.info["xmp"] = b"<x>" + b" " * 70_000
    with caplog.at_level(logging.WARNING):
        write_picture(photo, tmp_path / "a.jpg")
    assert "XMP is too long" in caplog.text
    assert "xmp" not in read_picture(tmp_path / "a.jpg").info
    write_picture(photo, tmp_path / "a.png")
    assert len(read_picture(tmp_path / "a.png").info["xmp"]) > 70_000


@pytest.mark.parametrize("extension", ["jpg", "webp", "avif"])
def test_quality_makes_smaller_files(tmp_path: Path, photo, extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    sizes = []
    for quality in (20, None, 100):
        file = tmp_path / f"{quality}.{extension}"
        write_picture(Image.fromarray(noise), file, quality=quality)
        sizes.append(file.stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("quality", [0, 101, -3])
def test_a_bad_quality_is_refused(tmp_path: Path, photo: Image.Image, quality: int) -> None:
    with pytest.raises(InputError, match="quality must be"):
        write_picture(photo, tmp_path / "a.jpg", quality=quality)
    assert not list(tmp_path.iterdir())


def test_heic_goes_both_ways(tmp_path: Path, carrying: Image.Image) -> None:
    pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    write_picture(carrying, tmp_path / "a.heic", settings=SETTINGS)
    picture = read_picture(tmp_path / "a.heic")
    assert picture.size == carrying.size
    assert np.abs(to_srgb(picture)[0] - to_srgb(carrying)[0]).mean() < 0.03
    assert read_settings(picture) == SETTINGS
    with (tmp_path / "a.heic").open("rb") as file:
        assert read_picture(file).size == carrying.size


def test_heic_without_its_package_says_what_to_install(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(InputError, match=r"pip install 'clipmamba\[heic\]'"):
        read_picture(tmp_path / "a.heic")
    with pytest.raises(InputError, match=r"pip install 'clipmamba\[heic\]'"):
        write_picture(photo, tmp_path / "b.heic")
    assert [path.name for path in tmp_path.iterdir()] == ["a.heic"]
