"""The picture formats that can be read and written; imports Pillow only."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from PIL import Image

from clipmamba.errors import InputError

# An explicit list keeps hostile files away from Pillow's exotic readers (EPS starts Ghostscript).
READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000")
ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
)


# Camera RAW files, which other programs must develop.
_RAW_NAMES = (
    "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 "
    "srf srw x3f"
)
RAW = frozenset(f".{name}" for name in _RAW_NAMES.split())
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


@dataclass(frozen=True)
class Writer:
    """How to write a format.

    Attributes:
        name: Pillow's name of the format.
        options: Pillow's options for saving.
        modes: Pillow modes that it can store; other pictures are converted.
        quality: default quality, 1 to 100, of a lossy format; None if lossless.
        holds: metadata that it can store, besides profile and resolution.
        room: size limits of metadata in bytes; no limit if not listed.
        longest_side: longest side in pixels.
    """

    name: str
    options: dict[str, Any]
    modes: frozenset[str]
    quality: int | None = None
    holds: frozenset[str] = frozenset({"exif", "xmp"})
    room: Mapping[str, int] = field(default_factory=dict)
    longest_side: int = 2**31 - 1


_JPEG = Writer(
    "JPEG",
    {"subsampling": 0},
    frozenset({"L", "RGB", "CMYK"}),
    95,
    frozenset({"exif", "xmp", "iptc", "comment"}),
    # 65,533 bytes per segment, less its identifier
    {"exif": 65_533, "xmp": 65_504, "iptc": 65_500, "comment": 65_533},
    65_500,  # libjpeg's limit, a little below the format's
)
_TIFF = Writer(
    "TIFF",
    # Uncompressed, since Pillow can't write the Exif and GPS directories through libtiff.
    {"compression": "raw"},
    frozenset({"L", "RGB", "RGBA", "CMYK", "I;16"}),
    holds=frozenset({"exif", "xmp", "iptc"}),
)
_HEIF = Writer("HEIF", {"chroma": "444"}, frozenset({"RGB", "RGBA"}), 90, longest_side=32_768)
_PNG = Writer(
    "PNG",
    {},
    frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    holds=frozenset({"exif", "xmp", "text"}),
)
_WEBP = Writer("WEBP", {}, frozenset({"RGB", "RGBA"}), 95, longest_side=16_383)
_AVIF = Writer(  # the longest side that decoders accept, below the format's limit
    "AVIF", {"subsampling": "4:4:4"}, frozenset({"RGB", "RGBA"}), 90, longest_side=32_768
)
WRITERS: dict[str, Writer] = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": _AVIF,
    ".heic": _HEIF,
    ".heif": _HEIF,
}
WRITABLE = frozenset(WRITERS)


class _Limit:
    """Pillow's saved pixel limit, and the number of threads that have lifted it."""

    lock = threading.Lock()
    users = 0
    before: int | None = None


_limit = _Limit()


@contextmanager
def any_size() -> Iterator[None]:
    """Lift Pillow's pixel limit inside the block; our own, per-call limit is checked instead.

    Pillow's limit is global to the process; the last thread to leave restores it.
    """
    with _limit.lock:
        if not _limit.users:
            _limit.before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _limit.users += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.users -= 1
            if not _limit.users:
                Image.MAX_IMAGE_PIXELS = _limit.before


def same_format(one: str, other: str) -> bool:
    """Tell whether two writable extensions mean the same format, as .jpg and .jpeg do."""
    return WRITERS[one.lower()].name == WRITERS[other.lower()].name


def check_size(writer: Writer, size: tuple[int, int], name: str) -> None:
    """Refuse a picture that exceeds a format's size limit.

    Raises:
        InputError: a side is too long.
    """
    if max(size) > writer.longest_side:
        raise InputError(
            f"can't write {name}: {writer.name} holds at most {writer.longest_side:,} pixels per "
            f"side, not {size[0]:,} x {size[1]:,}; reduce it with --max-size, or use PNG"
        )


def is_raw(name: str) -> bool:
    """Tell by its name whether a file is a camera RAW file."""
    return PurePath(name).suffix.lower() in RAW


def guess(header: bytes) -> str | None:
    """Guess a format's name from a file's first bytes; None if unknown."""
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _MAGIC.items() if header.startswith(magic)), None)


def looks_like_heif(header: bytes) -> bool:
    """Tell by its first 12 bytes whether a file is HEIF."""
    return header[4:8] == b"ftyp" and header[8:12] in _HEIF_BRANDS


def enable(name: str) -> None:
    """Make sure that a format can be read and written.

    Args:
        name: Pillow's name of the format.

    Raises:
        InputError: A package is missing; the message says what to install.
    """
    if name == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise InputError("HEIC needs one more package: pip install 'clipmamba[heic]'") from None
        pillow_heif.register_heif_opener(thumbnails=False)
    elif name == "AVIF":
        from PIL import features

        if not features.check("avif"):
            raise InputError("this Pillow was built without AVIF; choose another format")
