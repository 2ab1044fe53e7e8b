"""TIFF: inspection, and reading of the layouts that Pillow reads incorrectly or not at all.

Pillow reads 16-bit color with 8 bits, 16-bit planes as noise, white-is-zero as a negative, 12 bits
as a nearly black picture, and always the first page, even if it is a thumbnail. So the layout is
inspected first: it is read here, left to Pillow if it reads it correctly, or refused by name.

To read a layout, the file's directory is rewritten for Pillow: rows with several samples per pixel
become a gray picture that many times as wide, and each plane becomes a picture of its own. All of
libtiff's compressions still work, and so does every pointer to metadata.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.unsignedinteger[Any]]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PAGES = 64  # limit on the pages inspected
# Tags
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 255, 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _OFFSETS, _ORIENTATION, _SAMPLES, _COUNTS = 262, 266, 273, 274, 277, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_OFFSETS, _TILE_COUNTS = 284, 317, 322, 324, 325
_SUB_IFDS, _INK_SET, _EXTRA, _FORMAT, _SUBSAMPLING, _DNG = 330, 332, 338, 339, 530, 50706
# Values
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # photometric -> samples per color
_NAMES = {4: "a mask", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
_RAW_SENSOR = (32803, 34892)
_UNSPECIFIED, _PREMULTIPLIED = 0, 1  # kinds of extra samples; all others are alpha
_UNCOMPRESSED = 1
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate, PackBits, LZMA, Zstandard


def is_tiff(header: bytes) -> bool:
    """Tell by its first bytes whether a file is a TIFF."""
    return header[:4] in _MAGIC


@dataclass(frozen=True)
class Layout:
    """The pixel layout of a page.

    Attributes:
        page: its index, for Pillow's ``seek``.
        pages: number of pages in the file, thumbnails included; counted up to 64.
        tags: its directory.
        bits: bits per sample.
        samples: samples per pixel.
        photometric: TIFF's photometric interpretation.
        planar: whether each sample has its own plane.
        extra: TIFF's kinds of the extra samples.
    """

    page: int
    pages: int
    tags: Any
    bits: int
    samples: int
    photometric: int
    planar: bool
    extra: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, in pixels."""
        return self.tags[_WIDTH], self.tags[_HEIGHT]

    @property
    def is_cmyk(self) -> bool:
        """True for CMYK."""
        return self.photometric == _CMYK

    @property
    def orientation(self) -> int:
        """The orientation, 1 to 8, as in EXIF."""
        value = self.tags.get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 1

    @property
    def ours(self) -> bool:
        """True if :func:`read_samples` must read it; otherwise Pillow reads it correctly."""
        if self.photometric == _PALETTE or self.bits < 8:
            return False
        if self.photometric == _YCBCR:  # Pillow before 13 takes some of it for RGB
            whole = tuple(self.tags.get(_SUBSAMPLING, (2, 2))) == (1, 1)
            return whole and self.tags.get(_COMPRESSION, 1) in _LOSSLESS
        simple = self.bits == 8 and self.samples == _COLORS[self.photometric]
        return not (simple and self.in_one_plane) and self.tags.get(_COMPRESSION, 1) in _LOSSLESS

    @property
    def in_one_plane(self) -> bool:
        """True if declared chunky; Pillow fails if a single sample is declared planar."""
        return bool(self.tags.get(_PLANAR, 1) != 2)


def inspect(file: IO[bytes], name: str) -> Layout:
    """Find the page that is the photo, and its layout.

    Args:
        file: a TIFF file.
        name: the file's name in messages.

    Raises:
        InputError: the file is damaged, a RAW file, or has an unsupported layout.
    """
    file.seek(0)
    if file.read(4) == b"MM\0+":  # not supported by Pillow
        raise InputError(f"{name} is a big-endian BigTIFF; save it as an ordinary TIFF first")
    pages = list(_directories(file))
    if not pages:
        raise InputError(f"{name} is damaged: it has no pages")
    everything = [*pages, *(sub for page in pages for sub in _sub_directories(file, page))]
    if any(_DNG in d or d.get(_PHOTOMETRIC) in _RAW_SENSOR for d in everything):
        raise InputError(f"{name} is a RAW file; develop it to JPEG or TIFF first")
    number = next((n for n, page in enumerate(pages) if not _is_small(page)), 0)
    tags = pages[number]
    layout = _layout(number, len(pages), tags, name)
    problem = _problem(layout)
    if problem:
        raise InputError(f"{name} is a TIFF with {problem}; save it as RGB of 8 or 16 bits first")
    return layout


def read_samples(file: IO[bytes], layout: Layout) -> tuple[Samples, Samples | None, Image.Image]:
    """Read the pixels of a layout that is `ours`, without applying the orientation.

    Returns:
        ``(color, opacity, carrier)``: unsigned integers (H, W, C), C = 1 for gray (white is the
        maximum), 3 for RGB, 4 for CMYK; opacity (H, W) of the same dtype, or None; and an image
        with the file's metadata, except for the orientation.
    """
    import numpy as np

    buffer = _copy(file)
    end = len(buffer.getbuffer())
    width, height = layout.size
    planes, per_plane = (layout.samples, 1) if layout.planar else (1, layout.samples)
    colors = _COLORS[layout.photometric]
    stored: list[Any] = []
    carrier: Image.Image | None = None
    for plane in range(planes):
        image = _as_gray(buffer, end, layout, plane, planes, per_plane)
        image.load()
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        values = values.reshape(height, width, per_plane)
        if layout.tags.get(_PREDICTOR, 1) == 2:
            values = _undo_differences(values, layout.tags.get(_TILE_WIDTH, width))
        stored.append(values)
        carrier = carrier or image
    assert carrier is not None
    samples = stored[0] if len(stored) == 1 else np.concatenate(stored, axis=2)
    if layout.bits == 12:
        samples = (samples << 4) | (samples >> 8)
    highest = np.iinfo(samples.dtype).max
    color, opacity = samples[..., :colors], None
    if layout.photometric == _WHITE_IS_ZERO:
        color = highest - color
    if layout.photometric == _YCBCR:
        color = _rgb(color)
    place = next((i for i, kind in enumerate(layout.extra) if kind != _UNSPECIFIED), None)
    if place is not None:
        opacity = samples[..., colors + place]
        if layout.extra[place] == _PREMULTIPLIED:
            share = np.maximum(opacity, 1)[..., None].astype(np.float32) / np.float32(highest)
            color = np.minimum(np.rint(color / share), highest).astype(samples.dtype)
    return color, opacity, carrier


def raw_value(file: IO[bytes], layout: Layout, tag: int) -> bytes | None:
    """Read the bytes of a tag, whatever its declared type; None if it is missing."""
    header = _header(file)
    big = _is_big(header)
    order = {b"II": "<", b"MM": ">"}[layout.tags.prefix]
    entry = _raw_entries(file, layout.tags.offset, order, big).get(tag)
    if entry is None:
        return None
    kind, count = struct.unpack_from(f"{order}H{'Q' if big else 'I'}", entry, 2)
    size = count * {3: 2, 4: 4, 8: 2, 9: 4}.get(kind, 1)
    place = entry[12:] if big else entry[8:]
    if size <= len(place):
        return place[:size]
    file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", place)[0])
    return file.read(size)


def turned(values: Any, orientation: int) -> Any:
    """Apply an EXIF orientation to an array (H, W, ...)."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _directories(file: IO[bytes]) -> Iterator[Any]:
    """Yield the pages' directories, up to the first damaged one."""
    header = _header(file)
    head = ImageFileDirectory_v2(header)
    place = head.next
    seen: set[int] = set()
    while place and place not in seen and len(seen) < _MAX_PAGES:
        seen.add(place)
        directory = _directory(file, header, place)
        if directory is None or _WIDTH not in directory or _HEIGHT not in directory:
            return
        yield directory
        place = directory.next


def _header(file: IO[bytes]) -> bytes:
    file.seek(0)
    header = file.read(8)
    return header + file.read(8) if _is_big(header) else header


def _directory(file: IO[bytes], header: bytes, place: int) -> Any:
    try:
        file.seek(place)
        directory = ImageFileDirectory_v2(header)
        directory.load(file)
        dict(directory)  # read every value now, to catch errors
    except Exception:  # noqa: BLE001 - damaged files make the parser raise anything
        return None
    return directory


def _sub_directories(file: IO[bytes], page: Any) -> Iterator[Any]:
    places = page.get(_SUB_IFDS, ())
    header = _header(file)
    for place in (places if isinstance(places, tuple) else (places,))[:_MAX_PAGES]:
        directory = _directory(file, header, place) if isinstance(place, int) else None
        if directory is not None:
            yield directory


def _is_small(page: Any) -> bool:
    """Tell whether a page is a thumbnail of another page, or a mask."""
    kind = page.get(_SUBFILE, 0)
    return bool(isinstance(kind, int) and kind & 5) or page.get(_OLD_SUBFILE) == 2


def _layout(number: int, pages: int, tags: Any, name: str) -> Layout:
    bits = tags.get(_BITS, (1,))
    photometric = tags.get(_PHOTOMETRIC, 0)
    samples = tags.get(_SAMPLES, 1)
    extra = tags.get(_EXTRA, ())
    size = (tags[_WIDTH], tags[_HEIGHT])
    numbers = (photometric, samples, *bits, *extra, *size)
    if not all(isinstance(n, int) for n in numbers) or len(set(bits)) > 1 or min(size) < 1:
        raise InputError(f"{name} is damaged, or a TIFF of an unsupported kind")
    missing = samples - _COLORS.get(photometric, samples) - len(extra)
    if missing > 0:  # undeclared: a fourth sample of RGB is its alpha channel
        guess = 2 if photometric == _RGB and not extra else _UNSPECIFIED
        extra = (*extra, guess, *[_UNSPECIFIED] * (missing - 1))
    planar = tags.get(_PLANAR, 1) == 2 and samples > 1
    return Layout(number, pages, tags, bits[0], samples, photometric, planar, extra)


def _problem(layout: Layout) -> str:
    """Name the reason why a layout is unsupported; empty if it is supported."""
    tags, bits = layout.tags, layout.bits
    compression = tags.get(_COMPRESSION, 1)
    formats = set(tags.get(_FORMAT, (1,))) - {1, 4}
    few = layout.samples < _COLORS.get(layout.photometric, 0)
    if layout.photometric not in _COLORS:
        return _NAMES.get(layout.photometric, f"color of an unknown kind ({layout.photometric})")
    if formats:
        return "floating-point samples" if 3 in formats else "signed samples"
    if few and compression not in (6, 7):
        return "too few samples for its color"
    gray = layout.photometric in (0, 1)
    allowed = {_PALETTE: (1, 2, 4, 8), _YCBCR: (8,), _CMYK: (8, 16), _RGB: (8, 12, 16)}
    if bits not in ((1, 2, 4, 8, 12, 16) if gray else allowed[layout.photometric]):
        return f"{bits} bits per sample"
    if bits == 12 and tags.prefix != b"II":
        return "12 bits per sample in big-endian order"
    if bits > 8 and tags.get(_FILL_ORDER, 1) != 1:
        return f"{bits} bits per sample in reversed order"
    if bits > 8 and compression not in _LOSSLESS:
        return f"{bits} bits per sample and compression {compression}"
    if tags.get(_PREDICTOR, 1) not in (1, 2):
        return f"predictor {tags[_PREDICTOR]}"
    if layout.photometric == _CMYK and tags.get(_INK_SET, 1) != 1:
        return "inks other than cyan, magenta, yellow and black"
    if layout.photometric == _YCBCR and compression not in (6, 7):
        if layout.planar:
            return "YCbCr in planes"
        if compression == _UNCOMPRESSED and tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
            return "uncompressed YCbCr with chroma subsampling"
    if layout.samples > 1 and (bits < 8 or layout.photometric == _PALETTE):
        kind = "a palette" if layout.photometric == _PALETTE else f"{bits} bits"
        return f"{layout.samples} samples of {kind} per pixel"
    return ""


def without_planes(file: IO[bytes], layout: Layout) -> io.BytesIO:
    """Copy a file with one sample per pixel, without its declaration as planar."""
    buffer = _copy(file)
    _redirect(buffer, len(buffer.getbuffer()), layout, {_PLANAR}, {})
    return buffer


def _copy(file: IO[bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    file.seek(0)
    while part := file.read(1 << 24):
        buffer.write(part)
    return buffer


def _as_gray(
    buffer: io.BytesIO, end: int, layout: Layout, plane: int, planes: int, per_plane: int
) -> Image.Image:
    """Open a plane as a gray picture whose width counts samples instead of pixels."""
    old = layout.tags
    numbers: dict[int, tuple[int, ...]] = {
        _BITS: (layout.bits,),
        _SAMPLES: (1,),
        _PHOTOMETRIC: (1,),
    }
    for tag in (_WIDTH, _TILE_WIDTH):
        if tag in old:
            numbers[tag] = (old[tag] * per_plane,)
    for tag in (_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS):
        if tag in old:
            count = len(old[tag]) // planes
            numbers[tag] = old[tag][plane * count : (plane + 1) * count]
    without = {_ORIENTATION, _EXTRA, _FORMAT, _PREDICTOR, _PLANAR, _SUBFILE, _OLD_SUBFILE}
    _redirect(buffer, end, layout, without, numbers)
    buffer.seek(0)
    return Image.open(buffer, formats=("TIFF",))


def _redirect(
    buffer: io.BytesIO,
    end: int,
    layout: Layout,
    without: set[int],
    numbers: dict[int, tuple[int, ...]],
) -> None:
    """Give a file another directory, written after its first `end` bytes."""
    buffer.seek(0)
    big = _is_big(buffer.read(4))
    order = {b"II": "<", b"MM": ">"}[layout.tags.prefix]
    entries = _raw_entries(buffer, layout.tags.offset, order, big)
    entries = {tag: entry for tag, entry in entries.items() if tag not in without}
    letter, kind = ("Q", 16) if big else ("I", 4)
    data = bytes(end % 2)
    for tag, values in numbers.items():
        short = tag in (_BITS, _SAMPLES, _PHOTOMETRIC)  # as the standard requires
        array = struct.pack(f"{order}{len(values)}{'H' if short else letter}", *values)
        room = struct.calcsize(letter)
        place = array.ljust(room, b"\0")
        if len(array) > room:
            place = struct.pack(order + letter, end + len(data))
            data += array
        head = struct.pack(f"{order}HH{letter}", tag, 3 if short else kind, len(values))
        entries[tag] = head + place
    start = end + len(data)
    data += struct.pack(order + ("Q" if big else "H"), len(entries))
    data += b"".join(entry for _, entry in sorted(entries.items())) + bytes(8)  # no next page
    buffer.seek(end)
    buffer.truncate()
    buffer.write(data)
    buffer.seek(8 if big else 4)
    buffer.write(struct.pack(order + letter, start))


def _is_big(header: bytes) -> bool:
    return b"+" in header[2:4]


def _raw_entries(file: IO[bytes], place: int, order: str, big: bool) -> dict[int, bytes]:
    """Read a directory's raw entries by tag; what they point to stays where it is."""
    file.seek(place)
    letter, size = ("Q", 20) if big else ("H", 12)
    (count,) = struct.unpack(order + letter, file.read(struct.calcsize(letter)))
    entries = (file.read(size) for _ in range(min(count, 65535)))
    return {
        struct.unpack_from(f"{order}H", entry)[0]: entry for entry in entries if len(entry) == size
    }


def _rgb(values: Samples) -> Samples:
    """Convert 8-bit full-range YCbCr (H, W, 3) to RGB by ITU-R BT.601, as in JPEG."""
    import numpy as np

    y, cb, cr = (values[..., i].astype(np.float32) for i in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    result: Samples = np.rint(rgb).clip(0, 255).astype(np.uint8)
    return result


def _undo_differences(values: Samples, tile_width: int) -> Samples:
    """Undo TIFF's horizontal predictor: differences from the sample to the left, per tile."""
    import numpy as np

    result = np.empty_like(values)
    for start in range(0, values.shape[1], tile_width):
        columns = slice(start, start + tile_width)
        np.cumsum(values[:, columns], axis=1, dtype=values.dtype, out=result[:, columns])
    return result
