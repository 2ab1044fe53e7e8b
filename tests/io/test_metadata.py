"""What a photo carries beside its pixels comes through, and how it was made goes with it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
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


# -- what is carried ---------------------------------------------------------------------------

INTEROP, MAKER_NOTE = 0xA005, 0x927C
STALE = {  # what a phone or an editor says of a file that the result no longer is
    "hdr-gain-map": 'xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0"',
    "camera": 'xmlns:c="http://ns.google.com/photos/1.0/camera/" c:MotionPhoto="1"',
    "depthmap": 'xmlns:d="http://ns.google.com/photos/1.0/depthmap/" d:Near="1"',
    "HDRGainMap": 'xmlns:a="http://ns.apple.com/HDRGainMap/1.0/" a:HDRGainMapVersion="65536"',
    "ImageWidth": 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="9" tiff:Make="Cam"',
    "PixelXDimension": 'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:PixelXDimension="9"',
    "HasExtendedXMP": 'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="0123"',
    "container": None,
    "Thumbnails": None,
}
ELEMENTS = {
    "container": '<k:Directory xmlns:k="http://ns.google.com/photos/1.0/container/"><rdf:Seq/>'
    "</k:Directory>",
    "Thumbnails": '<xmp:Thumbnails xmlns:xmp="http://ns.adobe.com/xap/1.0/"><rdf:Alt/>'
    '</xmp:Thumbnails><xmp:Rating xmlns:xmp="http://ns.adobe.com/xap/1.0/">5</xmp:Rating>',
}


def packet(attributes: str = "", elements: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="Sömmer" {attributes}>{elements}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@pytest.mark.parametrize("kind", STALE)
def test_xmp_says_nothing_that_is_no_longer_true(tmp_path: Path, photo, kind: str) -> None:
    photo.save(tmp_path / "in.jpg", xmp=packet(STALE[kind] or "", ELEMENTS.get(kind, "")))
    write_picture(read_picture(tmp_path / "in.jpg"), tmp_path / "out.jpg")
    xmp = read_picture(tmp_path / "out.jpg").info["xmp"]
    assert kind.encode() not in xmp
    assert "Sömmer".encode() in xmp
    assert xmp.startswith(b"<?xpacket begin")
    for other in (b'tiff:Make="Cam"', b">5</xmp:Rating>"):
        assert (other in xmp) == (other in packet(STALE[kind] or "", ELEMENTS.get(kind, "")))


def test_harmless_xmp_is_not_touched(tmp_path: Path, photo) -> None:
    photo.save(tmp_path / "in.jpg", xmp=packet())
    assert read_picture(tmp_path / "in.jpg").info["xmp"] == packet()


@pytest.mark.parametrize(
    "xmp",
    [
        b"<a " + STALE["camera"].encode(),
        b'<!DOCTYPE a [<!ENTITY b "c">]><a xmlns:x="http://ns.google.com/photos/1.0/camera/"/>',
        b"<a>" * 20_000 + b"<b " + STALE["camera"].encode() + b"/>" + b"</a>" * 20_000,
        b"\xff\xfe" + STALE["camera"].encode(),
    ],
)
def test_xmp_that_can_not_be_mended_is_left_out_and_said(photo, caplog, xmp: bytes) -> None:
    photo.info["xmp"] = xmp
    assert "xmp" not in read_picture(photo).info
    assert "XMP left out" in caplog.text


PANORAMA = (
    'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:UsePanoramaViewer="True" '
    'GPano:CroppedAreaImageWidthPixels="48" GPano:CroppedAreaImageHeightPixels="32" '
    'GPano:FullPanoWidthPixels="96" GPano:FullPanoHeightPixels="48" '
    'GPano:CroppedAreaTopPixels="8"'
)


def test_a_panorama_stays_one_whose_measures_are_true(tmp_path: Path, photo) -> None:
    photo.save(tmp_path / "in.png")
    photo.info["xmp"] = packet(PANORAMA)
    picture = read_picture(photo)
    assert picture.info["xmp"] == packet(PANORAMA)
    half = picture.resize((24, 16))
    half.info = dict(picture.info)
    write_picture(half, tmp_path / "half.jpg")
    xmp = read_picture(tmp_path / "half.jpg").info["xmp"].decode()
    measures = {"ImageWidth": 24, "ImageHeight": 16, "PanoWidth": 48, "PanoHeight": 24, "Top": 4}
    assert 'UsePanoramaViewer="True"' in xmp
    for name, length in measures.items():
        assert f'{name}Pixels="{length}"' in xmp
    exif = Image.Exif()
    exif[274] = 6
    turned = Image.open(tmp_path / "in.png").copy()
    turned.info = {**photo.info, "exif": exif.tobytes()}
    assert b"GPano" not in read_picture(turned).info["xmp"]  # turned: of another shape


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp", "avif"])
@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_the_parts_inside_exif_stay(tmp_path: Path, photo, extension: str, settings) -> None:
    exif = Image.Exif()
    exif[EXIF] = {36867: "2024:05:06 07:08:09", INTEROP: {1: "R98", 2: b"0100"}}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    photo.save(tmp_path / "in.jpg", exif=exif)
    write_picture(read_picture(tmp_path / "in.jpg"), tmp_path / f"a.{extension}", settings=settings)
    with Image.open(tmp_path / f"a.{extension}") as written:
        details = written.getexif().get_ifd(EXIF)
        assert details[36867] == "2024:05:06 07:08:09"
        assert written.getexif().get_ifd(INTEROP) == {1: "R98", 2: b"0100"}
        assert written.getexif().get_ifd(0x8825)[1] == "N"


def test_a_pointer_to_nowhere_is_not_kept(photo) -> None:
    exif = Image.Exif()
    exif[EXIF] = {36867: "2024:05:06 07:08:09", INTEROP: 40_000}
    photo.info["exif"] = exif.tobytes()
    data = Image.Exif()
    data.load(read_picture(photo).info["exif"])
    assert INTEROP not in data.get_ifd(EXIF)
    assert data.get_ifd(EXIF)[36867] == "2024:05:06 07:08:09"


def test_the_size_in_exif_is_that_of_the_result(tmp_path: Path, photo) -> None:
    exif = Image.Exif()
    exif[EXIF] = {0xA002: 48, 0xA003: 32, INTEROP: {1: "R98"}}
    photo.info["exif"] = exif.tobytes()
    small = read_picture(photo).resize((24, 16))
    small.info = {"exif": photo.info["exif"]}
    write_picture(small, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as written:
        details = written.getexif().get_ifd(EXIF)
        assert (details[0xA002], details[0xA003]) == (24, 16)
        assert written.getexif().get_ifd(INTEROP) == {1: "R98"}


def test_a_camera_s_adobe_rgb_without_a_profile_is_followed(photo) -> None:
    exif = Image.Exif()
    exif[EXIF] = {0xA001: 0xFFFF, INTEROP: {1: "R03"}}
    green = Image.new("RGB", (4, 4), (120, 200, 120))
    plain, _ = to_srgb(read_picture(green))
    green = green.copy()
    green.info["exif"] = exif.tobytes()
    pixels, _ = to_srgb(read_picture(green))
    # sRGB of that Adobe RGB, by its primaries and its gamma of 563/256
    np.testing.assert_allclose(pixels[0, 0] * 255, [51, 201, 116], atol=2.5)
    assert np.abs(pixels - plain).max() > 0.1


IPTC = b"\x1c\x02\x78\x00\x06Summer\x1c\x02\x50\x00\x04Anna"


@pytest.mark.parametrize("source", ["jpg", "tif"])
@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_iptc_stays(tmp_path: Path, photo, source: str, extension: str) -> None:
    photo.info["iptc"] = IPTC
    write_picture(photo, tmp_path / f"in.{source}", settings=SETTINGS)
    picture = read_picture(tmp_path / f"in.{source}")
    pixels, _ = to_srgb(picture)
    write_picture(from_srgb(pixels, like=picture), tmp_path / f"out.{extension}")
    assert read_picture(tmp_path / f"out.{extension}").info["iptc"].rstrip(b"\0") == IPTC
    with Image.open(tmp_path / f"out.{extension}") as written:  # Pillow finds it, too
        from PIL import IptcImagePlugin

        assert IptcImagePlugin.getiptcinfo(written)[(2, 120)] == b"Summer"
    write_picture(picture, tmp_path / f"bare.{extension}", metadata="color")
    assert b"Summer" not in (tmp_path / f"bare.{extension}").read_bytes()


def test_iptc_in_numbers_of_four_bytes(tmp_path: Path, photo) -> None:
    words = IPTC.ljust(-(-len(IPTC) // 4) * 4, b"\0")
    numbers = tuple(np.frombuffer(words, "<u4").tolist())
    tifffile.imwrite(tmp_path / "in.tif", np.asarray(photo), photometric="rgb",
                     extratags=[(33723, "I", len(numbers), numbers, True)])  # fmt: skip
    assert read_picture(tmp_path / "in.tif").info["iptc"] == words


def test_comments_stay_where_there_is_a_place(tmp_path: Path, photo) -> None:
    photo.save(tmp_path / "in.jpg", comment=b"my holiday")
    photo.save(tmp_path / "in.gif", comment=b"my holiday")
    for name in ("in.jpg", "in.gif"):
        picture = read_picture(tmp_path / name)
        write_picture(picture, tmp_path / "out.jpg", overwrite=True)
        with Image.open(tmp_path / "out.jpg") as written:
            assert written.info["comment"] == b"my holiday"
        write_picture(picture, tmp_path / "out.png", overwrite=True)
        with Image.open(tmp_path / "out.png") as written:
            assert written.text["Comment"] == "my holiday"
    write_picture(read_picture(tmp_path / "out.png"), tmp_path / "back.jpg")
    with Image.open(tmp_path / "back.jpg") as written:
        assert written.info["comment"] == b"my holiday"
    write_picture(picture, tmp_path / "bare.jpg", metadata="none")
    assert b"holiday" not in (tmp_path / "bare.jpg").read_bytes()


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp", "avif", "heic"])
def test_nothing_is_left_out_without_a_word(tmp_path: Path, photo, extension: str, caplog) -> None:
    carried = {"iptc": IPTC, "comment": b"a comment", "text": {"Title": "a text"}}
    for key, value in carried.items():
        picture = photo.copy()
        picture.info = {key: value}
        caplog.clear()
        file = tmp_path / f"{key}.{extension}"
        write_picture(picture, file)
        words = {"iptc": b"Summer", "comment": b"a comment", "text": b"a text"}[key]
        assert (words in file.read_bytes()) != ("left out" in caplog.text)
        assert not caplog.text or str(file) in caplog.text


# -- the limit of a JPEG's parts ------------------------------------------------------------------


def exif_of(length: int) -> bytes:
    """EXIF of just this many bytes, most of them a maker's note."""
    exif = Image.Exif()
    exif[271] = "Camera"
    exif[EXIF] = {MAKER_NOTE: b""}
    exif[EXIF] = {MAKER_NOTE: bytes(length - len(exif.tobytes()) - 2)}
    assert abs(len(exif.tobytes()) - length) <= 2
    return exif.tobytes()


@pytest.mark.parametrize("length", [64_000, 64_970, 65_300, 65_526, 70_000])
def test_long_exif_does_not_cost_the_camera(tmp_path: Path, photo, length: int, caplog) -> None:
    photo.info["exif"] = exif_of(length)
    write_picture(photo, tmp_path / "a.jpg", settings=SETTINGS)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.getexif()[271] == "Camera"
    note = picture.getexif().get_ifd(EXIF).get(MAKER_NOTE)
    assert (note is None) == (length > 65_533)
    kept = read_settings(picture) == SETTINGS
    assert kept or length > 65_300
    assert ("no room" in caplog.text) != kept


@pytest.mark.parametrize("depth", [10, 60_000])
@pytest.mark.parametrize("text", ["[", '{"clipmamba":', '{"a":['])
def test_a_comment_of_brackets_is_no_settings(photo, depth: int, text: str) -> None:
    exif = Image.Exif()
    exif[EXIF] = {USER_COMMENT: b"ASCII\0\0\0" + text.encode() * depth}
    photo.info["exif"] = exif.tobytes()
    assert read_settings(read_picture(photo)) is None


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0", b"Exif\0\0II*\0", b"nonsense", b"Exif\0\0MM\0*" * 9]
)
def test_damaged_exif_is_no_settings_and_no_traceback(tmp_path: Path, photo, damage: bytes) -> None:
    photo.info["exif"] = damage
    assert read_settings(photo) is None
    write_picture(read_picture(photo), tmp_path / "a.jpg", settings=SETTINGS)
    assert read_settings(read_picture(tmp_path / "a.jpg")) == SETTINGS
