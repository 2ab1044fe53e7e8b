"""16-bit color, which Pillow reads and writes with 8 bits only.

Pillow decodes a 16-bit PNG to the high bytes. Decoding it again with swapped byte order gives the
low bytes; a TIFF is read by :mod:`clipmamba.io.tiff`. The 16-bit levels are stored on the 8-bit
image, in an attribute that Pillow's operations do not copy: once modified, the image is an ordinary
8-bit one.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from typing import IO, TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Deep = NDArray[np.uint16]

DEEP_FORMATS = frozenset({"PNG", "TIFF"})
_KEY = "_clipmamba_deep"
_ROWS = 256  # rows processed at a time, to avoid copies of a large picture
_RAW = re.compile(r"(RGB|RGBA|RGBX);16([LBN])")  # Pillow's raw modes of 16-bit color
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_IMAGE_WIDTH, _BITS_PER_SAMPLE = 256, 258  # TIFF tags


def swap_bytes(image: Image.Image) -> bool:
    """Make an opened file of 16-bit color decode to its low bytes.

    Args:
        image: opened, but not yet loaded.

    Returns:
        True if the file has 16-bit color; otherwise the image is left unchanged.
    """
    found = False

    def swapped(argument: Any) -> Any:
        nonlocal found
        match = _RAW.fullmatch(argument) if isinstance(argument, str) else None
        if match is None:
            return argument
        found = True
        return f"{match[1]};16{_SWAPPED[match[2]]}"

    tiles = []
    for tile in getattr(image, "tile", ()):
        whole = isinstance(tile.args, tuple)
        args = tuple(map(swapped, tile.args)) if whole else swapped(tile.args)
        tiles.append(tile._replace(args=args))
    if found:
        image.tile = tiles  # type: ignore[attr-defined]
    return found


def join_bytes(high: Image.Image, low: Image.Image) -> Deep:
    """Join high and low bytes to 16-bit levels (H, W, 3 or 4)."""
    import numpy as np

    levels = np.asarray(high).astype(np.uint16)
    levels <<= 8
    levels |= np.asarray(low)
    return levels


def attach(image: Image.Image, levels: Deep | None) -> Image.Image:
    """Store 16-bit levels on the image of their high bytes."""
    if levels is not None:
        vars(image)[_KEY] = levels
    return image


def with_levels(image: Image.Image, levels: Deep) -> Image.Image:
    """Store 16-bit levels on a picture as read; a transparent color becomes an alpha channel."""
    import numpy as np

    color = image.info.get("transparency")
    if image.mode != "RGB" or not isinstance(color, tuple):
        return attach(image, levels)
    opacity = np.where((levels == color).all(-1), 0, 65535).astype(np.uint16)
    made = high_bytes(np.dstack([levels, opacity]))
    made.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return made


def deep_levels(image: Image.Image) -> Deep | None:
    """Return the 16-bit levels (H, W, 3 or 4) of a picture; None without any or if modified."""
    levels: Deep | None = vars(image).get(_KEY)
    if levels is None:
        return None
    import numpy as np

    shown = np.asarray(image)
    if levels.shape != shown.shape:
        return None
    strips = (slice(start, start + _ROWS) for start in range(0, len(shown), _ROWS))
    same = all(np.array_equal(levels[rows] >> 8, shown[rows]) for rows in strips)
    return levels if same else None


def high_bytes(levels: Deep) -> Image.Image:
    """Make the 8-bit image of 16-bit levels, with the levels stored on it."""
    import numpy as np

    shown = np.empty(levels.shape, np.uint8)
    for start in range(0, len(levels), _ROWS):
        shown[start : start + _ROWS] = levels[start : start + _ROWS] >> 8
    return attach(Image.fromarray(shown), levels)


def save_png(levels: Deep, file: IO[bytes], options: dict[str, Any]) -> None:
    """Write a 16-bit PNG: metadata from Pillow, pixels from the levels."""
    height, width, bands = levels.shape
    small = io.BytesIO()
    Image.new("RGBA" if bands == 4 else "RGB", (1, 1)).save(small, format="PNG", **options)
    data = small.getvalue()
    file.write(data[:8])
    place = 8
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + size]
        place += size + 12
        if kind == b"IDAT":
            _write_pixels(levels, file)
            continue
        if kind == b"IHDR":
            body = struct.pack(">IIBB", width, height, 16, body[9]) + body[10:]
        _write_chunk(file, kind, body)


def save_tiff(levels: Deep, file: IO[bytes], options: dict[str, Any]) -> None:
    """Write a 16-bit TIFF, as an 8-bit picture of double width whose header is then patched."""
    height, width, bands = levels.shape
    doubled = levels.astype("<u2", copy=False).view("u1").reshape(height, 2 * width, bands)
    buffer = io.BytesIO()
    Image.fromarray(doubled).save(buffer, format="TIFF", **options)
    data = buffer.getbuffer()
    start = struct.unpack_from("<I", data, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag == _IMAGE_WIDTH:
            struct.pack_into("<HHII", data, entry, tag, 4, 1, width)
        if tag == _BITS_PER_SAMPLE:
            place = struct.unpack_from("<I", data, entry + 8)[0]
            struct.pack_into(f"<{bands}H", data, place, *[16] * bands)
    file.write(data)


def _write_pixels(levels: Deep, file: IO[bytes]) -> None:
    """Write all rows, each as its difference from the row above (PNG filter type 2)."""
    import numpy as np

    squeeze, above = zlib.compressobj(), None
    for start in range(0, len(levels), _ROWS):
        rows = levels[start : start + _ROWS].astype(">u2").view(np.uint8)
        rows = rows.reshape(len(rows), -1)
        first = np.zeros_like(rows[:1]) if above is None else above
        strip = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)
        strip[:, 1:] = np.diff(rows, axis=0, prepend=first)
        above = rows[-1:]
        _write_chunk(file, b"IDAT", squeeze.compress(strip.tobytes()))
    _write_chunk(file, b"IDAT", squeeze.flush())


def _write_chunk(file: IO[bytes], kind: bytes, body: bytes) -> None:
    if kind != b"IDAT" or body:
        crc = zlib.crc32(kind + body)
        file.write(struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", crc))
