"""A photo keeps what it carries; a bad file gives one clear line."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from profiles import cmyk_profile, swapped_profile

from clipmamba.errors import InputError
from clipmamba.io import check_output, from_srgb, read_picture, srgb_profile, to_srgb, write_picture

ORIENTATION, MAKE, GPS, EXIF = 274, 271, 0x8825, 0x8769


def exif_with(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[MAKE] = "Camera"
    exif[EXIF] = {36867: "2024:05:06 07:08:09", 0xA002: 48, 0xA003: 32}
    exif[GPS] = {1: "N", 2: (48.0, 8.0, 0.0)}
    return exif


# -- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_orientation_is_applied_once_and_metadata_stays(tmp_path, photo, extension):
    source, target = tmp_path / f"in.{extension}", tmp_path / f"out.{extension}"
    photo.save(source, exif=exif_with(6).tobytes())

    picture = read_picture(source)
    assert picture.size == (32, 48)
    turned = np.asarray(photo.transpose(Image.Transpose.ROTATE_270), dtype=float)
    assert np.abs(np.asarray(picture, dtype=float) - turned).mean() < 6

    write_picture(picture, target)
    with Image.open(target) as written:
        assert written.size == (32, 48)
        exif = written.getexif()
        assert exif.get(ORIENTATION, 1) == 1
        assert exif[MAKE] == "Camera"
        assert exif.get_ifd(EXIF)[36867] == "2024:05:06 07:08:09"
        assert (exif.get_ifd(EXIF)[0xA002], exif.get_ifd(EXIF)[0xA003]) == (32, 48)
        assert exif.get_ifd(GPS)[1] == "N"


def test_pillow_images_are_turned_too_and_left_untouched(photo):
    photo.info["exif"] = exif_with(6).tobytes()
    assert read_picture(photo).size == (32, 48)
    assert photo.size == (48, 32)


def test_profile_is_followed_for_the_model():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    red.info["icc_profile"] = swapped_profile()
    pixels, _ = to_srgb(red)
    np.testing.assert_allclose(pixels, np.broadcast_to([0, 1, 0], (4, 4, 3)), atol=0.02)


def test_srgb_profile_changes_nothing(photo):
    plain, _ = to_srgb(photo)
    photo.info["icc_profile"] = srgb_profile()
    tagged, _ = to_srgb(photo)
    np.testing.assert_allclose(tagged, plain, atol=1.01 / 255)


def test_colours_go_back_into_the_photos_own_profile(tmp_path, photo):
    photo.info["icc_profile"] = swapped_profile()
    pixels, _ = to_srgb(photo)
    write_picture(from_srgb(pixels, like=photo), tmp_path / "out.png")
    again = read_picture(tmp_path / "out.png")
    assert again.info["icc_profile"] == swapped_profile()
    np.testing.assert_allclose(np.asarray(again, int), np.asarray(photo, int), atol=2)
    np.testing.assert_allclose(to_srgb(again)[0], pixels, atol=2.01 / 255)


def test_a_grey_photo_with_a_profile_becomes_srgb(photo):
    grey = photo.convert("L")
    grey.info["icc_profile"] = srgb_profile()
    result = from_srgb(to_srgb(photo)[0], like=grey)
    assert result.mode == "RGB"
    assert result.info["icc_profile"] == srgb_profile()
    np.testing.assert_array_equal(np.asarray(result), np.asarray(photo))


@pytest.mark.parametrize("extension", ["jpg", "tif", "png"])
def test_cmyk_goes_back_where_the_format_holds_it(tmp_path, photo, extension):
    pixels, _ = to_srgb(photo)
    inked = photo.convert("CMYK")
    inked.info["icc_profile"] = cmyk_profile()
    write_picture(inked, tmp_path / "in.tif")
    read = read_picture(tmp_path / "in.tif")
    shown, _ = to_srgb(read)
    assert np.abs(shown - pixels).mean() < 0.06  # the profile was followed, roughly this photo
    write_picture(from_srgb(shown, like=read), tmp_path / f"out.{extension}")
    result = read_picture(tmp_path / f"out.{extension}")
    assert result.mode == ("RGB" if extension == "png" else "CMYK")
    expected = srgb_profile() if extension == "png" else cmyk_profile()
    assert result.info["icc_profile"] == expected
    assert np.abs(to_srgb(result)[0] - shown).mean() < 0.03


def test_a_picture_without_profile_gets_none(photo):
    pixels, _ = to_srgb(photo)
    assert "icc_profile" not in from_srgb(pixels, like=photo).info


def test_an_unusable_profile_is_said_and_passed_over(photo, caplog):
    plain, _ = to_srgb(photo)
    photo.info["icc_profile"] = b"not a profile"
    with caplog.at_level(logging.WARNING):
        pixels, _ = to_srgb(photo)
    assert "profile" in caplog.text
    np.testing.assert_array_equal(pixels, plain)


@pytest.mark.parametrize("profile", [False, True])
def test_sixteen_bit_grey_is_neither_clipped_nor_coarse(tmp_path, profile):
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    image = Image.fromarray(levels)
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if profile else b""
    image.save(tmp_path / "grey.png", icc_profile=grey)
    pixels, alpha = to_srgb(read_picture(tmp_path / "grey.png"))
    assert alpha is None
    np.testing.assert_allclose(pixels[..., 1], levels / 65535, atol=1e-4)
    assert len(np.unique(pixels[..., 1])) > 4000


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_comes_back(tmp_path, photo, mode):
    if mode == "P":
        image = photo.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
        image.info["transparency"] = 3
        expected = np.where(np.asarray(image) == 3, 0, 255)
    elif mode == "RGB":  # one colour stands for transparent
        image = photo.copy()
        colour = image.getpixel((5, 5))
        image.info["transparency"] = colour
        expected = np.where((np.asarray(image) == colour).all(-1), 0, 255)
    else:
        alpha = Image.radial_gradient("L").resize(photo.size)
        image = photo.convert(mode)
        image.putalpha(alpha)
        expected = np.asarray(alpha)
    assert 0 < np.mean(expected < 128) < 1
    image.save(tmp_path / "in.png", transparency=image.info.get("transparency"))

    pixels, alpha = to_srgb(read_picture(tmp_path / "in.png"))
    write_picture(from_srgb(pixels, alpha), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        np.testing.assert_array_equal(np.asarray(written.getchannel("A")), expected)


def test_eight_bits_survive_the_way_through_floats(photo):
    pixels, _ = to_srgb(photo)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(from_srgb(pixels)), np.asarray(photo))


def test_cmyk_is_readable(tmp_path, photo):
    photo.convert("CMYK").save(tmp_path / "in.jpg", quality=100)
    pixels, _ = to_srgb(read_picture(tmp_path / "in.jpg"))
    assert np.abs(pixels - to_srgb(photo)[0]).mean() < 0.02


@pytest.mark.parametrize("extension", ["gif", "png", "webp", "avif", "tif"])
def test_first_frame_of_an_animation_is_taken_and_said(tmp_path, photo, extension, caplog):
    file = tmp_path / f"in.{extension}"
    photo.save(file, save_all=True, append_images=[photo.rotate(180)])
    pixels, _ = to_srgb(read_picture(file))
    assert np.abs(pixels - to_srgb(photo)[0]).mean() < 0.1
    assert "first" in caplog.text
    assert file.name in caplog.text
    caplog.clear()
    photo.save(file)
    read_picture(file)
    assert not caplog.text


# -- bad input -------------------------------------------------------------------------------


def bad_inputs(folder: Path, photo: Image.Image) -> dict[str, tuple[Path, str]]:
    (folder / "folder.jpg").mkdir()
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    for extension in ("jpg", "png", "webp", "tif"):
        photo.save(folder / f"whole.{extension}")
        data = (folder / f"whole.{extension}").read_bytes()
        (folder / f"short.{extension}").write_bytes(data[: len(data) // 2])
    return {
        "missing": (folder / "missing.jpg", "no such file"),
        "folder": (folder / "folder.jpg", "is a folder"),
        "text": (folder / "text.jpg", "not a picture"),
        "empty": (folder / "empty.jpg", "is empty"),
        "postscript": (folder / "script.eps", "not a picture"),
        "short jpg": (folder / "short.jpg", "short.jpg"),
        "short png": (folder / "short.png", "short.png"),
        "short webp": (folder / "short.webp", "short.webp"),
        "short tif": (folder / "short.tif", "short.tif"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("missing", "folder", "text", "empty", "postscript"),
        *("short jpg", "short png", "short webp", "short tif"),
    ],
)
def test_bad_files_give_one_line(tmp_path, photo, case):
    path, words = bad_inputs(tmp_path, photo)[case]
    with pytest.raises(InputError, match=words) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_decompression_bomb_is_refused_with_a_way_out(tmp_path, photo):
    photo.save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="--max-pixels 1536"):
        read_picture(tmp_path / "bomb.png", max_pixels=1535)
    assert read_picture(tmp_path / "bomb.png", max_pixels=1536).size == photo.size


@pytest.mark.parametrize("extension", ["png", "tif", "gif", "jpg"])
def test_pillows_own_limit_neither_warns_nor_is_lost(tmp_path, monkeypatch, recwarn, extension):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = tmp_path / f"large.{extension}"
    Image.new("L", (64, 64)).save(file)
    assert read_picture(file).size == (64, 64)
    if extension == "tif":
        levels = np.zeros((64, 64, 4), np.uint16)
        tifffile.imwrite(file, levels, photometric="rgb", extrasamples=["unassalpha"])
        assert read_picture(file).size == (64, 64)
    threads = [threading.Thread(target=read_picture, args=(file,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not recwarn.list
    assert Image.MAX_IMAGE_PIXELS == 100


def test_float_pictures_are_refused():
    with pytest.raises(InputError, match="mode F"):
        to_srgb(Image.new("F", (4, 4)))


# -- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.xyz", "extension"),
        ("out", "extension"),
        ("nowhere/out.png", "no folder"),
        ("file/out.png", "no folder"),
        ("folder.png", "is a folder"),
        ("there.png", "exists already"),
        ("n" * 300 + ".png", "can't write"),
    ],
)
def test_unwritable_outputs_are_refused_before_the_work(tmp_path, photo, name, words):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "there.png").write_bytes(b"keep me")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words):
        check_output(tmp_path / name)
    with pytest.raises(InputError, match=words):
        write_picture(photo, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.png").read_bytes() == b"keep me"


def test_overwrite_replaces(tmp_path, photo):
    (tmp_path / "out.png").write_bytes(b"old")
    write_picture(photo, tmp_path / "out.png", overwrite=True)
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "out.png")), photo)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written(tmp_path, photo, monkeypatch, error):
    (tmp_path / "out.png").write_bytes(b"old")

    def save(self, file, **options):
        file.write(b"half a pict")
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_picture(photo, tmp_path / "out.png", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"old"


def test_a_format_limit_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"out\.webp"):
        write_picture(Image.new("RGB", (17000, 1)), tmp_path / "out.webp")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="WEBP picture"):
        write_picture(Image.new("RGB", (17000, 1)), io.BytesIO(), file_format="WEBP")


def test_jpeg_keeps_full_colour_resolution(tmp_path, photo):
    write_picture(photo, tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as written:
        assert [layer[1:3] for layer in written.layer] == [(1, 1)] * 3
        assert max(written.quantization[0]) < 20  # quality 95


def test_transparent_picture_as_jpeg_is_laid_on_white(tmp_path, photo, caplog):
    photo.putalpha(0)
    write_picture(photo, tmp_path / "out.jpg")
    assert "transparency" in caplog.text
    assert np.asarray(read_picture(tmp_path / "out.jpg")).min() > 250


def test_same_picture_same_bytes(tmp_path, photo):
    photo.info["icc_profile"] = swapped_profile()
    for name in ("a.jpg", "b.jpg"):
        srgb_profile.cache_clear()
        pixels, _ = to_srgb(photo)
        write_picture(from_srgb(pixels, like=photo), tmp_path / name)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


# -- what people hand over --------------------------------------------------------------------


class OneWay(io.RawIOBase):
    """A stream that can't go back, as a socket's."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._data.readinto(buffer)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "heic"])
@pytest.mark.parametrize("hand_over", [bytes, bytearray, memoryview, io.BytesIO, OneWay])
def test_bytes_and_files_are_pictures_too(tmp_path, photo, extension, hand_over):
    write_picture(photo, tmp_path / f"in.{extension}")
    data = (tmp_path / f"in.{extension}").read_bytes()
    picture = read_picture(hand_over(data))
    assert picture.tobytes() == read_picture(tmp_path / f"in.{extension}").tobytes()


def test_a_stream_without_end_is_no_picture(monkeypatch):
    monkeypatch.setattr("clipmamba.io.picture.MAX_STREAM", 1 << 22)
    with pytest.raises(InputError, match="holds more than"):
        read_picture(OneWay(bytes(1 << 23)))


def test_an_open_file_is_read_from_its_start_and_named(tmp_path, photo):
    photo.save(tmp_path / "in.png")
    with (tmp_path / "in.png").open("rb") as file:
        file.read(20)
        assert read_picture(file).size == photo.size
        assert read_picture(file).size == photo.size
    (tmp_path / "bad.png").write_text("no picture")
    with (tmp_path / "bad.png").open("rb") as file, pytest.raises(InputError, match=r"bad\.png"):
        read_picture(file)
    with (
        (tmp_path / "in.png").open(encoding="latin-1") as file,
        pytest.raises(InputError, match="'rb'"),
    ):
        read_picture(file)


@pytest.mark.parametrize("nothing", [None, 3, [], {}, object()])
def test_what_is_no_picture_is_called_so(nothing):
    with pytest.raises(
        InputError, match="must be a path, bytes, an open file or an image"
    ) as caught:
        read_picture(nothing)
    assert "standard input" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 40, "a PNG file"),
        (b"\xff\xd8\xff\xe0" + b"x" * 40, "a JPEG file"),
        (b"words", "known format"),
    ],
)
def test_a_message_says_what_the_file_is(data, words):
    with pytest.raises(InputError, match=words) as caught:
        read_picture(data, name="the upload")
    assert str(caught.value).startswith("the upload ")


@pytest.mark.parametrize("name", ["a.nef", "a.CR3", "a.dng"])
def test_a_raw_file_is_called_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"FUJIFILM or anything")
    with pytest.raises(InputError, match="RAW file; develop it"):
        read_picture(tmp_path / name)


@pytest.mark.parametrize(
    "file_format", ["png", "PNG", ".png", "jpg", "JPEG", "tif", "TIFF", "heic"]
)
def test_a_format_has_more_than_one_name(photo, file_format):
    file = io.BytesIO()
    write_picture(photo, file, file_format=file_format)
    assert read_picture(file).size == photo.size


def test_an_unknown_format_is_refused(photo):
    with pytest.raises(InputError, match="can't write the format 'gif'; use one of PNG, JPEG"):
        write_picture(photo, io.BytesIO(), file_format="gif")


@pytest.mark.parametrize(
    ("extension", "side"), [("webp", 16_384), ("jpg", 65_501), ("heic", 32_769), ("avif", 32_769)]
)
def test_format_limits_are_known_before_the_work(tmp_path, extension, side):
    for size in ((side, 1), (1, side)):
        with pytest.raises(InputError, match="pixels per side"):
            check_output(tmp_path / f"out.{extension}", size=size)
    check_output(tmp_path / f"out.{extension}", size=(side - 1, 1))


@pytest.mark.parametrize(
    ("extension", "side"), [("webp", 16_383), ("jpg", 65_500), ("avif", 32_768)]
)
def test_a_format_holds_what_it_is_said_to_hold(tmp_path, extension, side):
    write_picture(Image.new("RGB", (side, 1)), tmp_path / f"out.{extension}")
    assert read_picture(tmp_path / f"out.{extension}").size == (side, 1)


def test_a_link_and_a_mode_survive_overwriting(tmp_path, photo):
    write_picture(photo, tmp_path / "real.png")
    (tmp_path / "real.png").chmod(0o604)
    (tmp_path / "link.png").symlink_to("real.png")
    write_picture(photo.rotate(180), tmp_path / "link.png", overwrite=True)
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").stat().st_mode & 0o777 == 0o604
    assert read_picture(tmp_path / "real.png").tobytes() == photo.rotate(180).tobytes()
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match="exists already"):
        write_picture(photo, tmp_path / "dangling.png")
    assert not (tmp_path / "nowhere.png").exists()
