"""Every layout of a TIFF is read rightly or refused in one line; none becomes another picture."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.io import read_picture, to_srgb
from clipmamba.io.deep import deep_levels

HEIGHT, WIDTH = 19, 37  # neither whole bytes of bits nor whole tiles
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 32803: 1, 34892: 3}
RAW_SENSOR = (32803, 34892)
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773


def lzw(data: bytes) -> bytes:
    """TIFF's LZW in its simplest form: the table is cleared before codes get longer."""
    codes = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def packbits(data: bytes) -> bytes:
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


SQUEEZE = {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}


def packed(values: np.ndarray, bits: int, order: str) -> bytes:
    """Rows (H, N) of unsigned integers, floats or signed integers, as TIFF stores them."""
    if bits in (8, 16, 32):
        return values.astype(values.dtype.newbyteorder(order)).tobytes()
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(
        ((values[..., None] >> places) & 1).reshape(len(values), -1).astype(np.uint8), axis=1
    ).tobytes()


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    *,
    planar: int = 1,
    extra: tuple[int, ...] = (),
    sample_format: int = 1,
    compression: int = NONE,
    order: str = "<",
    tile: int = 0,
    more: dict[int, tuple[str, tuple[int, ...]]] | None = None,
) -> bytes:
    """Samples (H, W, N) as a TIFF, without any library."""
    height, width, count = samples.shape
    planes = [samples[..., i : i + 1] for i in range(count)] if planar == 2 else [samples]
    chunks = []
    for plane in planes:
        if tile:
            rows, columns = -(-height // tile) * tile, -(-width // tile) * tile
            padded = np.zeros((rows, columns, plane.shape[2]), plane.dtype)
            padded[:height, :width] = plane
            parts = [padded[y : y + tile, x : x + tile]
                     for y in range(0, rows, tile) for x in range(0, columns, tile)]  # fmt: skip
        else:
            parts = [plane[y : y + 8] for y in range(0, height, 8)]
        for part in parts:
            data = packed(part.reshape(len(part), -1), bits, order)
            chunks.append(SQUEEZE[compression](data))
    offsets, body = [], b""
    for chunk in chunks:
        offsets.append(8 + len(body))
        body += chunk + bytes(len(chunk) % 2)
    tags: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("I", (width,)), 257: ("I", (height,)), 258: ("H", (bits,) * count),
        259: ("H", (compression,)), 262: ("H", (photometric,)), 277: ("H", (count,)),
        284: ("H", (planar,)), 339: ("H", (sample_format,) * count),
    }  # fmt: skip
    places, sizes = (324, 325) if tile else (273, 279)
    tags |= {places: ("I", tuple(offsets)), sizes: ("I", tuple(map(len, chunks)))}
    tags |= {322: ("H", (tile,)), 323: ("H", (tile,))} if tile else {278: ("H", (8,))}
    tags |= {338: ("H", extra)} if extra else {}
    if photometric == 3 and bits <= 16:
        ramp = tuple(np.linspace(0, 65535, 2**bits).round().astype(int).tolist())
        tags[320] = ("H", (*ramp, *ramp[::-1], *ramp))
    if photometric == 6:
        tags[530] = ("H", (1, 1))
    tags |= more or {}
    directory, extras = b"", b""
    start = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, (letter, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        kind = {"B": 1, "H": 3, "I": 4}[letter]
        place = data.ljust(4, b"\0")
        if len(data) > 4:
            place = struct.pack(f"{order}I", start + len(extras))
            extras += data + bytes(len(data) % 2)
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + directory + bytes(4) + extras


def drawn(photometric: int, bits: int, extra: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Samples as stored (H, W, N), and the sRGB colours that they stand for (H, W, 3)."""
    highest = 2 ** min(bits, 31) - 1
    generator = np.random.default_rng(bits)
    colors = COLORS[photometric]
    levels = generator.integers(0, highest + 1, (HEIGHT, WIDTH, colors + len(extra)), np.int64)
    if extra:
        levels[..., colors:] = np.maximum(levels[..., colors:], highest // 2)
    shares = levels[..., :colors] / highest
    if photometric == 0:
        shares = 1 - shares
    if photometric == 3:
        shares = np.dstack([shares, 1 - shares, shares])
    if photometric == 5:  # Pillow's plain inks
        shares = (1 - shares[..., :3]) * (1 - shares[..., 3:])
    if photometric == 6:
        y, cb, cr = np.moveaxis(shares, 2, 0)
        cb, cr = cb - 128 / 255, cr - 128 / 255
        shares = np.dstack(
            [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
        ).clip(0, 1)
    if extra and extra[0] == 1 and photometric in (1, 2):  # multiplied by the opacity
        share = levels[..., colors : colors + 1] / highest
        levels[..., :colors] = (levels[..., :colors] * share).round()
        shares = (levels[..., :colors] / highest / share).clip(0, 1)
    dtype = {8: np.uint8, 16: np.uint16, 32: np.uint32}.get(bits, np.int64)
    return levels.astype(dtype), np.broadcast_to(shares, (HEIGHT, WIDTH, 3))


def must_be_read(photometric: int, bits: int, planar: int, extra: tuple, order: str) -> bool:
    if photometric in (0, 1):
        plain = not extra or photometric == 1
        deep = bits in (8, 16) or (bits == 12 and order == "<")
        return (deep and plain) or (bits in (1, 2, 4) and not extra)
    if photometric == 2:
        return bits in (8, 16) or (bits == 12 and order == "<")
    if photometric == 3:
        return bits in (1, 2, 4, 8) and not extra
    if photometric == 5:
        return bits in (8, 16) and not extra
    return photometric == 6 and bits == 8 and planar == 1 and not extra


@pytest.mark.parametrize("photometric", COLORS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16, 32])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_table(photometric: int, bits: int) -> None:
    read = 0
    for planar, extra, (compression, tile, order) in itertools.product(
        (1, 2),
        ((), (0,), (1,), (2,), (0, 2)),
        ((NONE, 0, "<"), (NONE, 0, ">"), (NONE, 16, "<"), (LZW, 0, "<"), (DEFLATE, 16, ">"),
         (PACKBITS, 0, "<")),
    ):  # fmt: skip
        if extra and extra[0] == 1 and (photometric not in (1, 2) or bits < 8):
            continue  # multiplying a negative, or a number of a palette, has no meaning
        samples, expected = drawn(photometric, bits, extra)
        case = (photometric, bits, planar, extra, compression, tile, order)
        file = tiff(samples, bits, photometric, planar=planar, extra=extra,
                    compression=compression, order=order, tile=tile)  # fmt: skip
        refusal = ""
        try:
            pixels, alpha = to_srgb(read_picture(file))
        except InputError as error:
            refusal = str(error)
        if refusal:
            assert not must_be_read(photometric, bits, planar, extra, order), (case, refusal)
            assert "\n" not in refusal
            assert len(refusal) < 300
            continue
        read += 1
        deep = bits > 8 and photometric in (0, 1, 2)
        step = 1 / 4000 if deep else 1.5 / 255 if photometric in (5, 6) else 0.6 / 255
        if extra[:1] == (1,):
            step = 3 / 255 if bits == 8 else step
        assert np.abs(pixels - expected).max() < step, case
        kinds = [i for i, kind in enumerate(extra) if kind]
        if kinds and photometric != 5:
            opacity = samples[..., COLORS[photometric] + kinds[0]] / (2**bits - 1)
            assert alpha is not None, case
            assert np.abs(np.asarray(alpha) / 255 - opacity).max() < 1 / 255, case
        else:
            assert alpha is None, case
    assert bool(read) == must_be_read(photometric, bits, 1, (), "<")


@pytest.mark.parametrize("photometric", [0, 1, 2])
@pytest.mark.parametrize(("bits", "sample_format"), [(8, 2), (16, 2), (32, 2), (32, 3), (16, 3)])
def test_signed_and_floating_point_numbers_are_refused(
    photometric: int, bits: int, sample_format: int
) -> None:
    samples, _ = drawn(photometric, bits, ())
    file = tiff(samples, bits, photometric, sample_format=sample_format)
    with pytest.raises(InputError, match=r"signed|floating|bits"):
        read_picture(file)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("compression", [LZW, DEFLATE])
@pytest.mark.parametrize("order", "<>")
def test_differences_of_neighbours(planar: int, tile: int, compression: int, order: str) -> None:
    samples, _ = drawn(2, 16, ())
    stored = samples.copy()
    for start in range(0, WIDTH, tile or WIDTH):
        part = samples[:, start : start + (tile or WIDTH)]
        stored[:, start + 1 : start + part.shape[1]] = np.diff(part, axis=1)
    file = tiff(stored, 16, 2, planar=planar, tile=tile, compression=compression, order=order,
                more={317: ("H", (2,))})  # fmt: skip
    np.testing.assert_array_equal(deep_levels(read_picture(file)), samples)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("planar", "bits"), [(2, 8), (1, 16), (2, 16)])
def test_layouts_read_here_are_turned_as_pillow_turns(
    orientation: int, planar: int, bits: int
) -> None:
    turn = {274: ("H", (orientation,))}
    samples, _ = drawn(2, bits, ())
    shown = samples if bits == 8 else (samples >> 8).astype(np.uint8)
    theirs = read_picture(tiff(shown, 8, 2, more=turn))
    ours = read_picture(tiff(samples, bits, 2, planar=planar, more=turn))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert ours.size == ((HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT))


@pytest.mark.parametrize(
    "more",
    [
        {50706: ("B", (1, 4, 0, 0)), 254: ("I", (1,))},  # a DNG's thumbnail
        {254: ("I", (1,)), 330: ("I", (0,))},  # filled in below: another maker's RAW
    ],
)
def test_a_raw_file_is_refused_not_its_thumbnail_restyled(more: dict) -> None:
    samples, _ = drawn(2, 8, ())
    file = tiff(samples, 8, 2, more=more)
    if 330 in more:  # the sensor's directory lies behind everything else
        start = len(file) + len(file) % 2
        file = tiff(samples, 8, 2, more={**more, 330: ("I", (start,))}).ljust(start, b"\0")
        file += struct.pack("<HHHIIi", 1, 262, 3, 1, 32803, 0)
    with pytest.raises(InputError, match="RAW"):
        read_picture(io.BytesIO(file))


def test_the_first_whole_page_is_taken_not_a_thumbnail() -> None:
    small, large = io.BytesIO(), Image.new("RGB", (64, 48), (200, 30, 30))
    Image.new("RGB", (16, 12)).save(
        small, format="TIFF", save_all=True, append_images=[large], tiffinfo={254: 1}
    )
    data = small.getvalue()
    second = struct.unpack_from("<I", data, struct.unpack_from("<I", data, 4)[0] + 2 + 12 *
                                struct.unpack_from("<H", data, 8)[0])[0]  # fmt: skip
    data = bytearray(data)
    count = struct.unpack_from("<H", data, second)[0]
    for entry in range(second + 2, second + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == 254:
            struct.pack_into("<I", data, entry + 8, 0)
    picture = read_picture(bytes(data))
    assert picture.size == (64, 48)
    assert picture.getpixel((5, 5)) == (200, 30, 30)


def test_uncompressed_ycbcr_of_reduced_resolution_is_refused() -> None:
    samples, _ = drawn(6, 8, ())
    with pytest.raises(InputError, match="chroma subsampling"):
        read_picture(tiff(samples, 8, 6, more={530: ("H", (2, 2))}))


def test_a_strange_tiff_is_not_called_no_tiff() -> None:
    samples, _ = drawn(2, 32, ())
    with pytest.raises(InputError, match="32 bits per sample; save it as RGB") as caught:
        read_picture(tiff(samples, 32, 2))
    assert "known format" not in str(caught.value)
