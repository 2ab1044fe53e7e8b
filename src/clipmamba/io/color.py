"""Color management: from any picture to sRGB for the network, and back to the photo's profile."""

from __future__ import annotations

import io
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from clipmamba.errors import InputError
from clipmamba.files import one_line
from clipmamba.io.alpha import fill_hidden
from clipmamba.io.deep import deep_levels, high_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger("clipmamba")

LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709 luma weights of red, green and blue
_ROWS = 256  # rows processed at a time, to avoid copies of a large picture
_PLACES = 86  # grid points per channel of the 16-bit color table: every third of 256 levels
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_EIGHT_BIT = {  # Pillow mode -> the mode that an ICC profile applies to
    "1": "L",
    "L": "L",
    "LA": "L",
    "CMYK": "CMYK",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}


def to_srgb(picture: Image.Image) -> tuple[NDArray[np.float32], Image.Image | None]:
    """Convert a picture to sRGB colors and a separate alpha channel.

    An embedded ICC profile is applied (relative colorimetric, black point compensation); a
    picture without one is taken as sRGB. Colors outside sRGB are clipped to the nearest inside.
    16-bit pictures keep their precision. Fully transparent pixels are filled with the visible
    colors around them.

    Args:
        picture: an image as :func:`read_picture` returns it.

    Returns:
        ``(pixels, alpha)``: float32 (H, W, 3) in [0, 1], and an ``L`` image or None.

    Raises:
        InputError: the picture's mode can't be converted to sRGB (float, Lab ...).
    """
    import numpy as np

    profile = picture.info.get("icc_profile")
    if picture.mode in _SIXTEEN_BIT:
        grays = np.asarray(picture).astype(np.float32) / 65535
        if grays.size and not 0 <= grays.min() <= grays.max() <= 1:
            raise InputError("a 32-bit picture can't be read; save it with 8 or 16 bits first")
        # A gray profile is a curve: sample it at 256 points and interpolate the 65536 levels.
        curve = _to_srgb_image(Image.linear_gradient("L").resize((1, 256)), profile)
        places = np.linspace(0, 1, 256, dtype=np.float32)
        values = np.asarray(curve, dtype=np.float32)[:, 0] / 255
        channels = [np.interp(grays, places, values[:, c]) for c in range(3)]
        alpha = None
        if isinstance(hidden := picture.info.get("transparency"), int):  # a transparent level
            opacity = np.where(np.asarray(picture) == hidden, 0, 255)
            alpha = Image.fromarray(opacity.astype(np.uint8))
        return np.stack(channels, axis=-1).astype(np.float32), alpha

    if picture.mode not in _EIGHT_BIT:
        raise InputError(f"pictures of mode {picture.mode} can't be read; save it as RGB first")
    alpha = None
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
    levels = deep_levels(picture)
    if levels is not None:
        pixels = levels[..., :3].astype(np.float32)
        pixels /= np.float32(65535)
        if profile:
            pixels = _through_table(pixels, _to_srgb_image(_color_cube(), profile))
    else:
        colors = _to_srgb_image(picture.convert(_EIGHT_BIT[picture.mode]), profile)
        pixels = np.asarray(colors, dtype=np.float32)
        pixels /= np.float32(255)  # in place: no copy of a large picture
    if alpha is not None:
        pixels = fill_hidden(pixels, np.asarray(alpha, dtype=np.float32) / np.float32(255))
    return pixels, alpha


def from_srgb(
    pixels: NDArray[np.float32],
    alpha: Image.Image | None = None,
    like: Image.Image | None = None,
    untouched: NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Make a picture from sRGB colors; the inverse of :func:`to_srgb`.

    Args:
        pixels: float (H, W, 3); clamped to [0, 1].
        alpha: an ``L`` image of the same size, or None for an opaque picture.
        like: the photo to take profile, bit depth, EXIF, XMP and resolution from. The picture is
            converted back to its RGB or CMYK profile; with any other profile it becomes RGB with
            an sRGB profile.
        untouched: boolean (H, W), true where the colors equal those of `like`, which must have the
            same size: its original values are copied there, including colors outside sRGB.

    Returns:
        An ``RGB`` or ``RGBA`` image, or ``CMYK`` if `like` is CMYK with a profile; with 16 bits if
        `like` has them.
    """
    import numpy as np

    profile = None
    tagged = like is not None and bool(like.info.get("icc_profile"))
    own = None if like is None else deep_levels(like)
    if like is not None and (own is not None or like.mode in _SIXTEEN_BIT):
        if tagged:
            cube, profile = _to_own_profile(_color_cube(), like)
            pixels = _through_table(pixels, cube)
        levels = _quantized(pixels, np.dtype(np.uint16))
        if own is not None and untouched is not None and profile == like.info.get("icc_profile"):
            levels[untouched] = own[untouched, :3]
        if alpha is not None:
            opacity = np.asarray(alpha, np.uint16) * np.uint16(257)
            if own is not None and own.shape == (*opacity.shape, 4):
                opacity = own[..., 3]
            levels = np.dstack([levels, opacity])
        image = high_bytes(levels)
    else:
        image = Image.fromarray(_quantized(pixels, np.dtype(np.uint8)))
        if like is not None and tagged:
            image, profile = _to_own_profile(image, like)
            if untouched is not None and profile == like.info["icc_profile"]:
                image.paste(like.convert(image.mode), mask=Image.fromarray(untouched))
        if alpha is not None:
            image.putalpha(alpha)
    image.info = {} if like is None else dict(like.info)
    for key in ("transparency", "icc_profile"):
        image.info.pop(key, None)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def as_srgb(picture: Image.Image) -> Image.Image:
    """Convert a picture to sRGB, ``RGB`` or ``RGBA``; keeps its metadata."""
    pixels, alpha = to_srgb(picture)
    image = from_srgb(pixels, alpha)
    image.info = {key: value for key, value in picture.info.items() if key != "transparency"}
    if "icc_profile" in image.info:
        image.info["icc_profile"] = srgb_profile()
    return image


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """Make an ICC profile of sRGB, with the same bytes every time."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 36 of an ICC header are the creation date: a fixed one makes files reproducible.
    date = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return profile[:24] + date + profile[36:]


def _to_srgb_image(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an ``L``, ``RGB`` or ``CMYK`` image to ``RGB`` in sRGB."""
    if not profile:
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        return _convert(image, profile, srgb_profile(), "RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("unusable color profile, sRGB assumed: %s", one_line(error))
        return image.convert("RGB")


def _quantized(pixels: NDArray[np.float32], kind: np.dtype[Any]) -> NDArray[Any]:
    """Quantize colors in [0, 1] to the full range of an integer type."""
    import numpy as np

    levels = np.empty(pixels.shape, kind)
    for start in range(0, len(pixels), _ROWS):
        strip = np.clip(pixels[start : start + _ROWS], 0, 1)
        levels[start : start + _ROWS] = np.rint(strip * np.float32(np.iinfo(kind).max))
    return levels


def _color_cube() -> Image.Image:
    """Make a grid of all colors with `_PLACES` points per channel, blue varying fastest."""
    import numpy as np

    places = np.linspace(0, 255, _PLACES).astype(np.uint8)
    colors = np.stack(np.meshgrid(places, places, places, indexing="ij"), axis=-1)
    return Image.fromarray(colors.reshape(_PLACES**2, _PLACES, 3))


def _through_table(pixels: NDArray[np.float32], cube: Image.Image) -> NDArray[np.float32]:
    """Convert colors with a 3D lookup table, since Pillow converts 8 bits only.

    Args:
        pixels: (H, W, 3) in [0, 1].
        cube: the converted `_color_cube`, ``RGB``.

    Returns:
        (H, W, 3), interpolated between the grid points.
    """
    import numpy as np
    import torch

    places = np.asarray(cube, np.float32).reshape(_PLACES, _PLACES, _PLACES, 3) / 255
    table = torch.from_numpy(np.ascontiguousarray(places.transpose(3, 0, 1, 2)))[None]
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), _ROWS):
        rows = np.clip(pixels[start : start + _ROWS, :, ::-1], 0, 1) * 2 - 1
        made = torch.nn.functional.grid_sample(
            table, torch.from_numpy(rows)[None, None], align_corners=True
        )
        result[start : start + _ROWS] = made[0, :, 0].permute(1, 2, 0).numpy()
    return result


def _to_own_profile(image: Image.Image, like: Image.Image) -> tuple[Image.Image, bytes]:
    """Convert an sRGB image to the profile of `like`; return it with the profile it now has."""
    from PIL import ImageCms

    profile: bytes = like.info["icc_profile"]
    mode = {b"RGB ": "RGB", b"CMYK": "CMYK"}.get(profile[16:20])
    if mode is not None and mode == _EIGHT_BIT.get(like.mode):
        try:
            return _convert(image, srgb_profile(), profile, mode), profile
        except (ImageCms.PyCMSError, OSError):  # damaged, or an input-only profile
            pass
    return image, srgb_profile()


def _convert(image: Image.Image, source: bytes, target: bytes, mode: str) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(source)),
        ImageCms.ImageCmsProfile(io.BytesIO(target)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode=mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # None only for in-place conversion
    return converted
