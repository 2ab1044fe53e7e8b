"""Read pictures with their metadata intact.

Pictures are ``PIL.Image.Image`` objects throughout: pixels in their own mode, and in ``.info`` the
metadata to keep (see :func:`read_picture`).

Only Pillow is imported at load time, so that the command line can refuse a bad file quickly.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from PIL import Image, ImageOps

from clipmamba.errors import InputError
from clipmamba.files import one_line, reason
from clipmamba.io import heif, metadata, png, tiff
from clipmamba.io.deep import attach, deep_levels, high_bytes, join_bytes, swap_bytes, with_levels
from clipmamba.io.formats import (
    ANIMATED,
    READABLE,
    any_size,
    enable,
    guess,
    is_raw,
    looks_like_heif,
)
from clipmamba.io.profiles import ADOBE_RGB, make_profile
from clipmamba.io.xmp import without_stale

logger = logging.getLogger("clipmamba")

MAX_PIXELS = 200_000_000
MAX_STREAM = 1 << 32  # limit on the bytes read from a pipe
_CHUNK = 1 << 20


def read_picture(
    source: str | os.PathLike[str] | Image.Image | bytes | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Image.Image:
    """Read a picture completely and apply its orientation.

    Args:
        source: a path, the bytes of a file, an open binary file, or a Pillow image (left
            unchanged). Only the first frame of an animation is read; a warning is logged.
        max_pixels: limit on the pixels, checked before decoding: a small file can decompress to
            more than fits in memory.
        name: the picture's name in messages; None for the path or the file's own name.

    Returns:
        An image in its own mode, with ``info`` holding at most ``"exif"`` (without orientation),
        ``"xmp"``, ``"iptc"``, ``"comment"`` (all bytes), ``"text"`` (a PNG's text chunks, a dict),
        ``"dpi"``, ``"icc_profile"`` (bytes; also made from a PNG's color chunks or a camera's
        EXIF) and ``"transparency"``. 16-bit gray stays 16-bit; for 16-bit color of PNG and TIFF
        see :mod:`clipmamba.io.deep`.

    Raises:
        InputError: the file is missing, a folder, unreadable, not a picture, damaged, too large, or
            of an unsupported kind.
    """
    if isinstance(source, Image.Image):
        return attach(_decode(source, name or "the picture"), deep_levels(source))
    name = name or _name(source)
    try:
        with opened(source, name) as file:
            return _read(file, name, max_pixels)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {name}") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder; give one picture") from None
    except OSError as error:
        raise InputError(f"can't read {name}: {reason(error)}") from error
    except Exception as error:  # headers of hostile files make decoders raise anything
        raise InputError(f"{name} is damaged: {one_line(error)}") from error


@contextmanager
def opened(
    source: str | os.PathLike[str] | bytes | BinaryIO, name: str = "the picture"
) -> Iterator[IO[bytes]]:
    """Open a picture as a seekable binary file; a pipe is read into memory.

    Raises:
        InputError: the source is of another type, or open as text.
        OSError: it can't be opened.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise InputError("the path of a picture is empty")
        with Path(source).open("rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            yield file if regular else _kept(file, name)
    elif hasattr(source, "read"):
        if isinstance(source, io.TextIOBase):
            raise InputError(f"{name} is open as text; open it with mode 'rb'")
        yield source if getattr(source, "seekable", lambda: False)() else _kept(source, name)
    else:
        raise InputError(
            f"a picture must be a path, bytes, an open file or an image, not {source!r:.80}"
        )


def is_result(path: str | os.PathLike[str]) -> bool:
    """Tell by its EXIF whether a file is a picture made by clipmamba; False if unsure."""
    try:
        with warnings.catch_warnings(), opened(path) as file:
            warnings.simplefilter("ignore")  # about metadata; repeated when the photo is read
            with open_picture(file, os.fspath(path)) as image:
                return metadata.is_ours(image)
    except Exception:  # noqa: BLE001 - errors are reported when the file is read
        return False


def _kept(file: IO[bytes], name: str) -> io.BytesIO:
    kept = io.BytesIO()
    while part := file.read(_CHUNK):
        if kept.tell() + len(part) > MAX_STREAM:
            raise InputError(f"{name} holds more than {MAX_STREAM >> 30} GiB: not a picture")
        kept.write(part)
    return kept


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return str(Path(source))
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else "the picture"


def _read(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Read a picture from a seekable file."""
    file.seek(0)
    header = file.read(16)
    if not header:
        raise InputError(f"{name} is empty; give a PNG, JPEG, WebP, TIFF or AVIF file")
    layout = tiff.inspect(file, name) if tiff.is_tiff(header) else None
    if layout is not None and layout.ours:
        check_pixels(layout.size, max_pixels, name)
        return _from_samples(file, layout, name)
    iptc = _iptc(file, layout)
    if layout is not None and layout.samples == 1 and not layout.in_one_plane:
        file, layout = tiff.without_planes(file, layout), replace(layout, page=0)
    with open_picture(file, name) as image:
        check_pixels(image.size, max_pixels, name)
        if layout is not None:
            image.seek(layout.page)
            check_pixels(image.size, max_pixels, name)
            if layout.pages > 1 and layout.page == 0:
                logger.warning("%s has several pages: the first is taken", name)
        elif image.format in ANIMATED and getattr(image, "is_animated", False):
            logger.warning("%s is animated: its first frame is taken", name)
        if image.format == "PNG":
            profile = png.color_profile(file, image, name)
        elif image.format in ("AVIF", "HEIF"):
            profile = heif.color_profile(file, image.info.get("icc_profile"), name)
        else:
            profile = None
        picture = _decode(image, name)
        for key, value in (("icc_profile", profile), ("iptc", iptc)):
            if value is not None:
                picture.info[key] = value
        if image.format != "PNG":
            return picture
    return _with_all_bits(file, picture, name)


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    """Refuse a picture with more than `max_pixels` pixels.

    Raises:
        InputError: it has more; the message says how to allow them.
    """
    pixels = size[0] * size[1]
    if pixels > max_pixels:
        raise InputError(
            f"{name} has {pixels:,} pixels, more than {max_pixels:,}; if you trust it, "
            f"allow it with --max-pixels {pixels}"
        )


def open_picture(file: IO[bytes], name: str) -> Image.Image:
    """Open a picture of a known format, without decoding it.

    Raises:
        InputError: the format is unknown or unsupported.
    """
    with any_size():
        try:
            return Image.open(file, formats=READABLE)
        except OSError as error:  # an unknown format, or a system error, which has an errno
            if error.errno is not None:
                raise
        file.seek(0)
        header = file.read(16)
        file.seek(0)
        if looks_like_heif(header):
            enable("HEIF")
            return Image.open(file, formats=("HEIF",))
    if is_raw(name):
        raise InputError(f"{name} is a RAW file; develop it to JPEG or TIFF first")
    kind = guess(header)
    if kind:
        raise InputError(f"{name} is damaged, or a {kind} file of an unsupported kind")
    raise InputError(
        f"{name} is not a picture of a known format; give a PNG, JPEG, WebP, TIFF or AVIF file"
    )


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Decode all pixels, apply the orientation, and keep only the metadata to carry over."""
    with _decoding(name), any_size():
        # Pillow rotates a TIFF while loading. Asking a PNG would load it, and hide damage.
        turned = image.format == "TIFF" and _orientation(image) != 1
        image.load()
        turned = turned or _orientation(image) != 1
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("La", "RGBa"):  # premultiplied alpha
            upright = upright.convert(upright.mode.upper())
    if upright.width == 0 or upright.height == 0:
        raise InputError(f"{name} has no pixels")
    upright.info = _carried(image, upright, turned)
    return upright


def _from_samples(file: IO[bytes], layout: tiff.Layout, name: str) -> Image.Image:
    """Read a TIFF that Pillow would read incorrectly."""
    import numpy as np

    if layout.pages > 1 and layout.page == 0:
        logger.warning("%s has several pages: the first is taken", name)
    with _decoding(name), any_size():
        color, opacity, carrier = tiff.read_samples(file, layout)
    if color.shape[2] == 4 and color.dtype == np.uint16:  # Pillow's CMYK has 8 bits
        color = ((color.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if opacity is not None and color.shape[2] == 4:
        logger.warning("%s: the alpha channel of CMYK is ignored", name)
    elif opacity is not None:
        if color.shape[2] == 1 and color.dtype == np.uint16:
            color = np.repeat(color, 3, axis=2)
        color = np.dstack([color, opacity])
    pixels = np.ascontiguousarray(tiff.turned(color, layout.orientation))
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        picture = high_bytes(pixels)
    elif pixels.shape[2] == 1:
        picture = Image.fromarray(pixels[..., 0])
    else:
        mode = {2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
        mode = "CMYK" if layout.is_cmyk else mode
        picture = Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
    picture.info = _carried(carrier, picture, layout.orientation != 1)
    if (iptc := _iptc(file, layout)) is not None:
        picture.info["iptc"] = iptc
    return picture


def _iptc(file: IO[bytes], layout: tiff.Layout | None) -> bytes | None:
    if layout is None:
        return None
    value = tiff.raw_value(file, layout, metadata.IPTC_TAG)
    file.seek(0)
    return metadata.iptc_of_tiff(value)


def _with_all_bits(file: IO[bytes], picture: Image.Image, name: str) -> Image.Image:
    """Decode a 16-bit PNG again for the bits that Pillow leaves out."""
    with _decoding(name), any_size():
        levels = png.gray_alpha_levels(file)
        if levels is not None:
            import numpy as np

            file.seek(0)
            with open_picture(file, name) as image:
                turned = tiff.turned(levels, _orientation(image))
            deep = high_bytes(np.ascontiguousarray(turned[..., [0, 0, 0, 1]]))
            deep.info = picture.info
            return deep
    file.seek(0)
    with open_picture(file, name) as image:
        if not swap_bytes(image):
            return picture
        return with_levels(picture, join_bytes(picture, _decode(image, name)))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Convert a decoder's exceptions to `InputError`."""
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{name} does not fit in memory; make it smaller first") from None
    except Exception as error:  # damaged files make decoders raise anything
        raise InputError(f"{name} is damaged or truncated: {one_line(error)}") from error


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - damaged metadata; exif_bytes warns about it
        return 1
    return cast("int", value) if value in range(1, 9) else 1


def _carried(source: Image.Image, upright: Image.Image, turned: bool) -> dict[Any, Any]:
    """Collect the metadata to carry over from the file."""
    info = upright.info if upright.info else source.info
    xmp = metadata.xmp_bytes(upright) or metadata.xmp_bytes(source)
    profile = info.get("icc_profile") or source.info.get("icc_profile")
    if not profile and upright.mode in ("RGB", "RGBA") and metadata.is_adobe_rgb(source):
        profile = make_profile(ADOBE_RGB)
    kept = {
        "icc_profile": profile,
        "transparency": info.get("transparency"),
        "exif": metadata.exif_bytes(source, upright.size),
        "xmp": None if xmp is None else without_stale(xmp, turned=turned),
        "dpi": metadata.resolution(source),
        "iptc": source.info.get("iptc") or metadata.iptc_of_jpeg(source),
        "comment": metadata.comment_bytes(source),
        "text": source.info.get("text") or png.texts(source),
    }
    return {key: value for key, value in kept.items() if value is not None and value != {}}
