"""Write pictures atomically, with their metadata."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from PIL import Image

from clipmamba.errors import InputError
from clipmamba.files import check_place, one_line, reason, write_whole
from clipmamba.io import metadata
from clipmamba.io.color import as_srgb
from clipmamba.io.deep import DEEP_FORMATS, deep_levels, save_png, save_tiff
from clipmamba.io.formats import WRITERS, Writer, check_size, enable
from clipmamba.io.png import text_chunks
from clipmamba.io.xmp import fit_panorama

logger = logging.getLogger("clipmamba")

_KEPT = {
    "all": ("exif", "xmp", "iptc", "comment", "text", "dpi", "icc_profile"),
    "color": ("icc_profile",),
    "none": (),
}
_TITLES = {
    "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "comment": "the comment", "text": "text chunks",
}  # fmt: skip


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    size: tuple[int, int] | None = None,
) -> None:
    """Check that a picture could be written, before any work.

    Args:
        path: the file to write.
        overwrite: whether an existing file may be replaced.
        size: width and height of the picture, if known.

    Raises:
        InputError: the extension is unknown, a package for the format is missing, the folder is
            missing or read-only, the name is too long, the size exceeds the format's limit, or the
            file exists and may not be replaced (:class:`clipmamba.files.ExistsError`).
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        what = f"unknown extension {path.suffix!r}" if path.suffix else "no extension"
        raise InputError(f"can't write {path}: {what}; use one of {' '.join(WRITERS)}")
    writer = WRITERS[path.suffix.lower()]
    enable(writer.name)
    check_place(path, overwrite=overwrite)
    if size is not None:
        check_size(writer, size, str(path))


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
    """Write a picture atomically: to a temporary file beside it, which is then renamed.

    JPEG, WebP, AVIF and HEIC are written at high quality, without chroma subsampling if possible.
    JPEG has no transparency: a transparent picture is composited on white. 16-bit pictures stay
    16-bit in PNG and TIFF. Metadata that the format can't store is left out with a warning.

    Args:
        image: any image that this package returned.
        target: the file to write, whose extension selects PNG, JPEG, WebP, TIFF, AVIF or HEIC; or
            an open binary file.
        overwrite: whether an existing file may be replaced. A file keeps its mode; a symbolic link
            is followed.
        metadata: which metadata in ``image.info`` to keep: "all" (EXIF, XMP, IPTC, comment, text
            chunks, resolution and ICC profile), "color" (the profile) or "none".
        file_format: format of an open binary file, by Pillow's name or an extension, in upper or
            lower case.
        quality: 1 to 100; None for 95 (JPEG, WebP) or 90 (AVIF, HEIC). Ignored for PNG and TIFF,
            which are lossless.
        settings: how the picture was made; with metadata "all", stored in EXIF's user comment for
            :func:`read_settings`, unless the photo has a comment of its own.

    Raises:
        InputError: see :func:`check_output`; or the file can't be written.
    """
    if metadata not in _KEPT:
        raise InputError(f"metadata must be one of {', '.join(_KEPT)}, not {metadata!r}")
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality must be from 1 to 100, not {quality}")
    info = {key: image.info[key] for key in _KEPT[metadata] if image.info.get(key)}
    made_by = settings if metadata == "all" else None
    if not isinstance(target, str | os.PathLike):
        writer = _writer(file_format)
        name = f"a {writer.name} picture"
        check_size(writer, image.size, name)
        with _encoding(name):
            _save(image, target, writer, _fitted(info, made_by, image, writer, name), quality)
        return
    check_output(target, overwrite=overwrite, size=image.size)
    path = Path(target)
    writer = WRITERS[path.suffix.lower()]
    info = _fitted(info, made_by, image, writer, str(path))
    with (
        _encoding(str(path)),
        write_whole(path, overwrite=overwrite) as part,
        part.open("r+b") as file,
    ):
        _save(image, file, writer, info, quality)


def _writer(file_format: str) -> Writer:
    """Find the writer for a format by Pillow's name or an extension.

    Raises:
        InputError: the format is unknown, or a package for it is missing.
    """
    wanted = file_format.lower().lstrip(".")
    for extension, writer in WRITERS.items():
        if wanted in (extension[1:], writer.name.lower()):
            enable(writer.name)
            return writer
    known = ", ".join(dict.fromkeys(writer.name for writer in WRITERS.values()))
    raise InputError(f"can't write the format {file_format!r}; use one of {known}")


@contextmanager
def _encoding(name: str) -> Iterator[None]:
    """Convert errors of the disk or an encoder to `InputError`."""
    try:
        yield
    except InputError:
        raise
    except BrokenPipeError:  # the reader of a stream is gone: not the picture's fault
        raise
    except OSError as error:
        raise InputError(f"can't write {name}: {reason(error)}") from error
    except (ValueError, RuntimeError) as error:  # what encoders raise for unsupported pictures
        raise InputError(f"can't write {name}: {one_line(error)}") from error


def _fitted(
    info: dict[str, Any],
    settings: Mapping[str, Any] | None,
    image: Image.Image,
    writer: Writer,
    name: str,
) -> dict[str, Any]:
    """Update metadata to the picture and drop, with a warning, what the format can't store."""
    info = dict(info)
    if "exif" in info:
        info["exif"] = metadata.fit_exif(info["exif"], image.size)
    if "xmp" in info:
        info["xmp"] = fit_panorama(info["xmp"], image.size)
    if settings:
        recorded = metadata.add_settings(info.get("exif"), settings)
        if len(recorded) <= writer.room.get("exif", len(recorded)):
            info["exif"] = recorded
        else:
            logger.warning("%s: no room in EXIF for the settings", name)
    exif = info.get("exif", b"")
    if len(exif) > writer.room.get("exif", len(exif)):
        bare = metadata.without_maker_note(exif)
        if bare is not None and len(bare) <= writer.room["exif"]:
            logger.warning("%s: the maker note is too long for %s: left out", name, writer.name)
            info["exif"] = bare
    if writer.name == "PNG" and "comment" in info:
        comment = info.pop("comment").decode("utf-8", "replace").strip("\0")
        info["text"] = {"Comment": comment, **info.get("text", {})}
    if writer.name == "JPEG" and "comment" not in info and "Comment" in info.get("text", {}):
        info["text"] = dict(info["text"])
        info["comment"] = info["text"].pop("Comment").encode()
    for key in ("exif", "xmp", "iptc", "comment", "text"):
        value = info.get(key)
        if not value:
            info.pop(key, None)
        elif key not in writer.holds:
            logger.warning("%s: %s left out, %s can't store it", name, _TITLES[key], writer.name)
            del info[key]
        elif len(value) > writer.room.get(key, len(value)):
            logger.warning("%s: %s is too long for %s: left out", name, _TITLES[key], writer.name)
            del info[key]
    return info


def _save(
    image: Image.Image,
    file: IO[bytes],
    writer: Writer,
    info: dict[str, Any],
    quality: int | None,
) -> None:
    """Encode a picture, converted if the format does not support its mode."""
    if image.mode not in writer.modes or (writer.name == "JPEG" and image.has_transparency_data):
        image = as_srgb(image)
        if "icc_profile" in info:
            info = {**info, "icc_profile": image.info["icc_profile"]}
        if image.mode == "RGBA" and writer.name == "JPEG":
            logger.warning("JPEG has no transparency: composited on white (use .png to keep it)")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image)
            image = white
    options = dict(writer.options)
    if writer.quality is not None:
        options["quality"] = writer.quality if quality is None else quality
    options |= _as_options(info, writer)
    levels = deep_levels(image) if writer.name in DEEP_FORMATS else None
    if levels is not None:
        save = save_png if writer.name == "PNG" else save_tiff
        save(levels, file, options)
        return
    bare = image.copy()
    # Without info, or Pillow would write metadata that should not be kept.
    bare.info = {key: image.info[key] for key in ("transparency",) if key in image.info}
    bare.save(file, format=writer.name, **options)


def _as_options(info: dict[str, Any], writer: Writer) -> dict[str, Any]:
    """Convert metadata to Pillow's options for a format."""
    options = dict(info)
    xmp, iptc, text = (options.pop(key, None) for key in ("xmp", "iptc", "text"))
    if writer.name == "PNG":
        if xmp or text:
            options["pnginfo"] = text_chunks(text or {}, xmp)
    elif writer.name == "TIFF":
        options["tiffinfo"] = metadata.tiff_tags(options.pop("exif", None), xmp, iptc)
    elif xmp:
        options["xmp"] = xmp
    if writer.name == "JPEG" and iptc:
        options["extra"] = metadata.iptc_segment(iptc)
    return options
