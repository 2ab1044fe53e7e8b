"""HEIC and AVIF whose colors are described by numbers: read rightly, or refused in one line."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from clipmamba.errors import InputError
from clipmamba.io import read_picture, to_srgb

GREEN = (40, 180, 60)
BT709, BT2020, P3 = 1, 9, 12
SRGB, PQ, HLG = 13, 16, 18


def coded(kind: str, primaries: int, transfer: int) -> bytes:
    """A green picture whose description says these numbers."""
    if kind == "AVIF":
        if not features.check("avif"):
            pytest.skip("Pillow without AVIF")
    else:
        pytest.importorskip("pillow_heif").register_heif_opener()
    file = io.BytesIO()
    Image.new("RGB", (64, 48), GREEN).save(file, kind, quality=95)
    data = file.getvalue()
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("primaries", [BT709, BT2020])
def test_hdr_is_refused(kind: str, primaries: int, transfer: int) -> None:
    with pytest.raises(InputError, match=r"is an HDR picture .*save it as SDR first"):
        read_picture(coded(kind, primaries, transfer))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("transfer", [1, 2, 6, SRGB, 14, 15])
def test_ordinary_pictures_stay_as_they_are(kind: str, transfer: int) -> None:
    picture = read_picture(coded(kind, BT709, transfer))
    assert "icc_profile" not in picture.info
    assert np.abs(np.asarray(picture)[24, 32].astype(int) - GREEN).max() <= 3


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("primaries", [BT2020, P3])
def test_a_wide_gamut_is_followed(kind: str, primaries: int) -> None:
    picture = read_picture(coded(kind, primaries, SRGB))
    assert picture.info["icc_profile"]
    red, green, blue = 255 * to_srgb(picture)[0][24, 32]
    assert red < GREEN[0] - 15  # the same numbers mean a purer green
    assert green >= GREEN[1]
    assert blue < GREEN[2] - 15


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_profile_of_its_own_counts_more(kind: str) -> None:
    data = coded(kind, P3, SRGB)
    profile = read_picture(data).info["icc_profile"]
    file = io.BytesIO()
    Image.new("RGB", (64, 48), GREEN).save(file, kind, quality=95, icc_profile=profile)
    assert read_picture(file.getvalue()).info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_damaged_description_is_no_traceback(kind: str) -> None:
    data = coded(kind, BT709, SRGB)
    end = data.index(b"mdat")
    for place in range(8, end):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            read_picture(broken)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - others are read
