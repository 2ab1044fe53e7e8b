"""The picture formats that are read and written; nothing but Pillow is loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipmamba.errors import InputError

# An explicit list keeps hostile files away from Pillow's exotic readers (EPS starts Ghostscript).
READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000")
ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
)


@dataclass(frozen=True)
class Writer:
    """How a format is written.

    Attributes:
        name: Pillow's name of it.
        options: How to save it.
        modes: What it stores as it is; other pictures are converted.
        quality: The usual quality of a format that loses some; None where nothing is lost.
        largest_metadata: Bytes that EXIF or XMP may have in it; None: any number.
    """

    name: str
    options: dict[str, Any]
    modes: frozenset[str]
    quality: int | None = None
    largest_metadata: int | None = None


_JPEG = Writer("JPEG", {"subsampling": 0}, frozenset({"L", "RGB", "CMYK"}), 95, 65_000)
# Uncompressed: through libtiff, Pillow can't write the Exif and GPS parts of the metadata.
_TIFF = Writer("TIFF", {"compression": "raw"}, frozenset({"L", "RGB", "RGBA", "CMYK", "I;16"}))
_HEIF = Writer("HEIF", {"chroma": "444"}, frozenset({"RGB", "RGBA"}), 90)
WRITERS: dict[str, Writer] = {
    ".png": Writer("PNG", {}, frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Writer("WEBP", {}, frozenset({"RGB", "RGBA"}), 95),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": Writer("AVIF", {"subsampling": "4:4:4"}, frozenset({"RGB", "RGBA"}), 90),
    ".heic": _HEIF,
    ".heif": _HEIF,
}
WRITABLE = frozenset(WRITERS)


def same_format(one: str, other: str) -> bool:
    """Tell whether two extensions of results mean one format, as .jpg and .jpeg do."""
    return WRITERS[one.lower()].name == WRITERS[other.lower()].name


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
