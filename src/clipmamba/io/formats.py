"""The picture formats that are read and written; nothing but Pillow is loaded here."""

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


# Files of cameras' sensors, to be developed by other programs.
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
    """How a format is written.

    Attributes:
        name: Pillow's name of it.
        options: how to save it.
        modes: what it stores as it is; other pictures are converted.
        quality: the usual quality of a format that loses some; None where nothing is lost.
        holds: metadata that has a place in it, beside profile and resolution.
        room: bytes that some of it may have; any number where nothing is said.
        longest_side: pixels.
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
    # 65,533 bytes each, less the names that some begin with
    {"exif": 65_533, "xmp": 65_504, "iptc": 65_500, "comment": 65_533},
    65_500,  # libjpeg's own limit is a little below the format's
)
_TIFF = Writer(
    "TIFF",
    # Uncompressed: through libtiff, Pillow can't write the Exif and GPS parts of the metadata.
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
_AVIF = Writer(  # its longest side is what readers take, below the format's
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
    """Pillow's limit while threads work without it, and how many do."""

    lock = threading.Lock()
    users = 0
    before: int | None = None


_limit = _Limit()


@contextmanager
def any_size() -> Iterator[None]:
    """Open and decode without Pillow's limit: ours is checked between, and can be raised for one.

    The limit is Pillow's for the whole process: the last thread that is in here gives it back.
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
    """Tell whether two extensions of results mean one format, as .jpg and .jpeg do."""
    return WRITERS[one.lower()].name == WRITERS[other.lower()].name


def check_size(writer: Writer, size: tuple[int, int], name: str) -> None:
    """Refuse a picture that a format can't hold.

    Raises:
        InputError: a side is too long.
    """
    if max(size) > writer.longest_side:
        raise InputError(
            f"can't write {name}: {writer.name} holds at most {writer.longest_side:,} pixels per "
            f"side, not {size[0]:,} x {size[1]:,}; make it smaller with --max-size, or use PNG"
        )


def is_raw(name: str) -> bool:
    """Tell by a file's name whether it holds what a camera's sensor saw."""
    return PurePath(name).suffix.lower() in RAW


def guess(header: bytes) -> str | None:
    """A format's name by a file's first bytes."""
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _MAGIC.items() if header.startswith(magic)), None)


def looks_like_heif(header: bytes) -> bool:
    """Tell by a file's first 12 bytes."""
    return header[4:8] == b"ftyp" and header[8:12] in _HEIF_BRANDS


def enable(name: str) -> None:
    """Make sure that a format can be read and written here.

    Args:
        name: Pillow's name of it.

    Raises:
        InputError: It can't; says what to install.
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
