"""Read and write pictures without harming what a photo carries.

A ``PIL.Image.Image`` is the carrier throughout: its pixels in their own mode, and in ``.info`` what
must survive: ``"exif"`` (bytes, orientation already applied and removed), ``"xmp"`` (bytes),
``"dpi"`` and ``"icc_profile"`` (bytes, describing exactly the pixels beside it).

Only Pillow is imported here at load time, so that the command line can refuse a bad file at once.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from clipmamba.errors import InputError
from clipmamba.io.color import as_srgb
from clipmamba.io.deep import (
    DEEP_FORMATS,
    attach,
    deep_levels,
    join_bytes,
    save_png,
    save_tiff,
    swap_bytes,
    with_levels,
)
from clipmamba.io.formats import ANIMATED, READABLE, WRITERS, Writer, enable, looks_like_heif
from clipmamba.io.metadata import add_settings, exif_bytes, one_line, resolution, xmp_bytes

logger = logging.getLogger("clipmamba")

MAX_PIXELS = 200_000_000
_KEPT = {"all": ("exif", "xmp", "dpi", "icc_profile"), "color": ("icc_profile",), "none": ()}
_XMP_TAG = 700  # of TIFF
_LIMIT_LOCK = threading.Lock()


def read_picture(
    source: str | os.PathLike[str] | Image.Image | BinaryIO, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a picture completely and turn it upright.

    Args:
        source: a path, an open binary file that can seek, or an image from Pillow (left
            untouched). Of an animation the first frame, which a warning says.
        max_pixels: a file with more is refused before it is decoded: a small file may unfold to
            more than the memory holds.

    Returns:
        An image in its own mode, with ``info`` holding at most ``"exif"`` (no orientation),
        ``"xmp"``, ``"dpi"``, ``"icc_profile"`` and ``"transparency"``. 16-bit grey stays; 16-bit
        colour of PNG and TIFF has its low bytes beside it (see :mod:`clipmamba.io.deep`).

    Raises:
        InputError: the file is missing, a folder, unreadable, not a picture, damaged or too large.
    """
    if isinstance(source, Image.Image):
        return attach(_decode(source, "the picture"), deep_levels(source))
    path = Path(source) if isinstance(source, str | os.PathLike) else Path("the standard input")
    file = path if isinstance(source, str | os.PathLike) else source
    try:
        with _open(file) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise InputError(
                    f"{path} has {pixels:,} pixels, more than {max_pixels:,}; if you trust it, "
                    f"allow it with --max-pixels {pixels}"
                )
            if image.format in ANIMATED and getattr(image, "is_animated", False):
                logger.warning("%s is animated: its first frame is taken", path)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                logger.warning("%s has several pages: the first is taken", path)
            picture = _decode(image, str(path))
            if image.format not in DEEP_FORMATS:
                return picture
        return _with_low_bytes(picture, file, str(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give one picture") from None
    except UnidentifiedImageError:
        empty = isinstance(file, Path) and path.stat().st_size == 0
        reason = "is empty" if empty else "is not a picture of a known format"
        raise InputError(f"{path} {reason}; give a PNG, JPEG, WebP, TIFF or AVIF file") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # headers of hostile files make decoders raise anything
        raise InputError(f"{path} is damaged: {one_line(error)}") from error


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Say now, before the work, whether a picture could be written there.

    Raises:
        InputError: unknown extension, a package for the format is missing, the folder is missing
            or read-only, or the file exists and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        what = f"unknown picture extension {path.suffix!r}" if path.suffix else "no extension"
        raise InputError(f"can't write {path}: {what}; use one of {' '.join(WRITERS)}")
    enable(WRITERS[path.suffix.lower()].name)
    try:
        if path.is_dir():
            raise InputError(f"can't write {path}: it is a folder; give a file name")
        if not path.parent.is_dir():
            raise InputError(f"can't write {path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"can't write {path}: the folder {path.parent} is not writable")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already; choose another name or allow --overwrite")
    except OSError as error:  # for example a name that is too long
        raise InputError(f"can't write {path}: {error.strerror or error}") from error


def write_picture(
    image: Image.Image,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    overwrite: bool = False,
    metadata: str = "all",
    file_format: str = "PNG",
    quality: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a picture whole or not at all: into a temporary file beside it, then renamed.

    JPEG, WebP, AVIF and HEIC are written with high quality and full colour resolution. JPEG has
    no transparency, so a transparent picture is laid on white there. PNG and TIFF keep the 16 bits
    of a picture that has them.

    Args:
        image: any image this module returned.
        target: where to; the extension chooses PNG, JPEG, WebP, TIFF, AVIF or HEIC. Or an open
            binary file.
        overwrite: whether an existing file may be replaced.
        metadata: what of ``image.info`` is kept: "all" (EXIF, XMP, resolution and ICC profile),
            "color" (the profile) or "none".
        file_format: Pillow's name of the format of an open binary file, which has no extension.
        quality: 1 to 100; None: 95 for JPEG and WebP, 90 for AVIF and HEIC. PNG and TIFF lose
            nothing whatever it says.
        settings: how the picture was made; with metadata "all" kept in EXIF's user comment, which
            :func:`read_settings` gives back, unless the photo has a comment of its own.

    Raises:
        InputError: see :func:`check_output`; or the disk is full, the format can't hold the size.
    """
    if metadata not in _KEPT:
        raise InputError(f"metadata must be one of {', '.join(_KEPT)}, not {metadata!r}")
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality must be 1 to 100, not {quality}")
    info = {key: image.info[key] for key in _KEPT[metadata] if image.info.get(key)}
    if settings and metadata == "all":
        info["exif"] = add_settings(info.get("exif"), settings)
    if not isinstance(target, str | os.PathLike):
        enable(file_format)
        writer = next(writer for writer in WRITERS.values() if writer.name == file_format)
        with _encoding(f"a {file_format} picture"):
            _save(image, target, writer, info, quality)
        return
    check_output(target, overwrite=overwrite)
    path = Path(target)
    extension = path.suffix.lower()
    temporary = path.with_name(f".clipmamba-{secrets.token_hex(6)}{extension}")
    try:
        with _encoding(str(path)):
            with temporary.open("xb") as file:
                _save(image, file, WRITERS[extension], info, quality)
            check_output(path, overwrite=overwrite)  # it may have appeared while the model worked
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _encoding(name: str) -> Iterator[None]:
    """Give what a disk or an encoder says as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except BrokenPipeError:  # the reader of a stream has left: no fault of the picture
        raise
    except OSError as error:
        raise InputError(f"can't write {name}: {error.strerror or one_line(error)}") from error
    except (ValueError, RuntimeError) as error:  # an encoder's word for what it can't hold
        raise InputError(f"can't write {name}: {one_line(error)}") from error


def _save(
    image: Image.Image,
    file: IO[bytes],
    writer: Writer,
    info: dict[str, Any],
    quality: int | None,
) -> None:
    """Encode a picture, converted where the format can't hold it."""
    if image.mode not in writer.modes or (writer.name == "JPEG" and image.has_transparency_data):
        image = as_srgb(image)
        if "icc_profile" in info:
            info = {**info, "icc_profile": image.info["icc_profile"]}
        if image.mode == "RGBA" and writer.name == "JPEG":
            logger.warning("JPEG holds no transparency: laid on white (use .png to keep it)")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image)
            image = white
    for key in ("exif", "xmp"):
        if writer.largest_metadata and len(info.get(key, b"")) > writer.largest_metadata:
            logger.warning("%s is too long for %s: left out", key.upper(), writer.name)
            info = {name: value for name, value in info.items() if name != key}
    options = dict(writer.options)
    if writer.quality is not None:
        options["quality"] = writer.quality if quality is None else quality
    if writer.name == "PNG" and "xmp" in info:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", info.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    if writer.name == "TIFF" and "xmp" in info:
        exif = Image.Exif()
        exif.load(info.get("exif", b""))
        exif[_XMP_TAG] = info.pop("xmp")
        info["exif"] = exif.tobytes()
    levels = deep_levels(image) if writer.name in DEEP_FORMATS else None
    if levels is not None:
        save = save_png if writer.name == "PNG" else save_tiff
        save(levels, file, {**options, **info})
        return
    bare = image.copy()
    # Pillow would write on its own what is not to be kept
    bare.info = {key: image.info[key] for key in ("transparency",) if key in image.info}
    bare.save(file, format=writer.name, **options, **info)


def _with_low_bytes(high: Image.Image, file: Path | BinaryIO, name: str) -> Image.Image:
    """Decode a file of 16-bit colour once more for what the first time left out."""
    with _open(file) as image:
        if not swap_bytes(image):
            return high
        return with_levels(high, join_bytes(high, _decode(image, name)))


def _open(file: Path | BinaryIO) -> Image.Image:
    """Open a picture of a known format; nothing is decoded yet."""
    with _without_pillows_limit():
        try:
            return Image.open(file, formats=READABLE)
        except UnidentifiedImageError:
            if not looks_like_heif(_header(file)):
                raise
        enable("HEIF")
        return Image.open(file, formats=("HEIF",))


def _header(file: Path | BinaryIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return opened.read(12)
    file.seek(0)
    header = file.read(12)
    file.seek(0)
    return header


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Ours is checked at once after opening, and can be raised for a single picture."""
    with _LIMIT_LOCK:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Decode all pixels, apply the orientation and keep only the metadata that is carried on."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        exif = exif_bytes(image, upright.size)
    except MemoryError:
        raise InputError(f"{name} does not fit into memory; make it smaller first") from None
    except Exception as error:  # damaged files make decoders raise anything
        raise InputError(f"{name} is damaged or cut short: {one_line(error)}") from error
    if upright.width == 0 or upright.height == 0:
        raise InputError(f"{name} has no pixels")
    kept = {
        "icc_profile": upright.info.get("icc_profile"),
        "transparency": upright.info.get("transparency"),
        "exif": exif,
        "xmp": xmp_bytes(upright),
        "dpi": resolution(upright),
    }
    upright.info = {key: value for key, value in kept.items() if value is not None}
    return upright
