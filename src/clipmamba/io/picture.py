"""Read, convert and write pictures without harming what a photo carries.

A ``PIL.Image.Image`` is the carrier throughout: its pixels in their own mode, and in ``.info`` the
two things that must survive, ``"exif"`` (bytes, orientation already applied and removed) and
``"icc_profile"`` (bytes, describing exactly the pixels beside it).

Only Pillow is imported here at load time, so that the command line can refuse a bad file at once.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger("clipmamba")

# An explicit list keeps hostile files away from Pillow's exotic readers (EPS starts Ghostscript).
_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000")

# Extension -> Pillow's format, how to save it, and the modes it stores as they are.
_WRITERS: dict[str, tuple[str, dict[str, Any], frozenset[str]]] = {}
for _extensions, _format, _options, _modes in (
    ((".png",), "PNG", {}, {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    ((".jpg", ".jpeg"), "JPEG", {"quality": 95, "subsampling": 0}, {"L", "RGB", "CMYK"}),
    ((".webp",), "WEBP", {"quality": 95}, {"RGB", "RGBA"}),
    # Uncompressed: through libtiff, Pillow can't write the Exif and GPS parts of the metadata.
    ((".tif", ".tiff"), "TIFF", {"compression": "raw"}, {"L", "RGB", "RGBA", "CMYK", "I;16"}),
):
    for _extension in _extensions:
        _WRITERS[_extension] = (_format, _options, frozenset(_modes))
WRITABLE = frozenset(_WRITERS)

_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_EIGHT_BIT = {  # mode -> the plain mode that an ICC profile speaks about
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

# Tags that describe how the old file laid out its pixels; copied, they would corrupt the new one.
# 274 is the orientation (applied on reading), 700 XMP (repeats it), 34675 the ICC profile.
_LAYOUT_TAGS = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
        *(284, 288, 289, 290, 291, 292, 293, 301, 317, 318, 319, 320, 322, 323, 324, 325, 330, 332),
        *(338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
        *(700, 34377, 34675),
    }
)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_PIXEL_SIZE = (0xA002, 0xA003)  # inside the Exif part; width and height of the upright picture


def read_picture(source: str | os.PathLike[str] | Image.Image | BinaryIO) -> Image.Image:
    """Read a picture completely and turn it upright.

    Args:
        source: a path, an open binary file, or an image from Pillow (left untouched). Of an
            animation the first frame.

    Returns:
        An image in its own mode, with ``info`` holding at most ``"exif"`` (no orientation),
        ``"icc_profile"`` and ``"transparency"``.

    Raises:
        InputError: the file is missing, a folder, unreadable, not a picture, damaged or too large.
    """
    if isinstance(source, Image.Image):
        return _decode(source, "the picture")
    path = Path(source) if isinstance(source, str | os.PathLike) else Path("the standard input")
    file = path if isinstance(source, str | os.PathLike) else source
    try:
        with Image.open(file, formats=_READABLE) as image:
            return _decode(image, str(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give one picture") from None
    except Image.DecompressionBombError:
        raise InputError(_too_large(str(path))) from None
    except UnidentifiedImageError:
        empty = isinstance(file, Path) and path.stat().st_size == 0
        reason = "is empty" if empty else "is not a picture of a known format"
        raise InputError(f"{path} {reason}; give a PNG, JPEG, WebP, TIFF or AVIF file") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    except Exception as error:  # headers of hostile files make decoders raise anything
        raise InputError(f"{path} is damaged: {_one_line(error)}") from error


def to_srgb(picture: Image.Image) -> tuple[NDArray[np.float32], Image.Image | None]:
    """Give a picture's colours as sRGB, and its transparency beside them.

    An embedded ICC profile is followed (relative colorimetric, black point compensation); a
    picture without one is sRGB. Sixteen-bit grey keeps its precision.

    Args:
        picture: an image as :func:`read_picture` returns it.

    Returns:
        ``(pixels, alpha)``: float32 (H, W, 3) in [0, 1], and an ``L`` image or None.

    Raises:
        InputError: the picture's mode can't be shown as sRGB (float, Lab ...).
    """
    import numpy as np

    profile = picture.info.get("icc_profile")
    if picture.mode in _SIXTEEN_BIT:
        levels = np.asarray(picture).astype(np.float32) / 65535
        if levels.size and not 0 <= levels.min() <= levels.max() <= 1:
            raise InputError("a 32-bit picture can't be read; save it with 8 or 16 bits first")
        # A grey profile is a curve: take it at 256 places, read the 65536 levels off by lines.
        curve = _apply_profile(Image.linear_gradient("L").resize((1, 256)), profile)
        places = np.linspace(0, 1, 256, dtype=np.float32)
        values = np.asarray(curve, dtype=np.float32)[:, 0] / 255
        channels = [np.interp(levels, places, values[:, c]) for c in range(3)]
        return np.stack(channels, axis=-1).astype(np.float32), None

    if picture.mode not in _EIGHT_BIT:
        raise InputError(f"pictures of mode {picture.mode} can't be read; save it as RGB first")
    alpha = None
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
    colours = _apply_profile(picture.convert(_EIGHT_BIT[picture.mode]), profile)
    return np.asarray(colours, dtype=np.float32) / np.float32(255), alpha


def from_srgb(
    pixels: NDArray[np.float32],
    alpha: Image.Image | None = None,
    like: Image.Image | None = None,
) -> Image.Image:
    """Make an 8-bit picture of sRGB colours; the other direction of :func:`to_srgb`.

    Args:
        pixels: float (H, W, 3); clamped to [0, 1].
        alpha: an ``L`` image of the same size, or None for an opaque picture.
        like: the picture whose EXIF is kept; if it carried an ICC profile, the new one carries
            sRGB's, which is what its pixels now are.

    Returns:
        An ``RGB`` or ``RGBA`` image.
    """
    import numpy as np

    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels)
    if alpha is not None:
        image.putalpha(alpha)
    if like is not None:
        if "exif" in like.info:
            image.info["exif"] = like.info["exif"]
        if "icc_profile" in like.info:
            image.info["icc_profile"] = srgb_profile()
    return image


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Say now, before the work, whether a picture could be written there.

    Raises:
        InputError: unknown extension, the folder is missing or read-only, or the file exists and
            may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        what = f"unknown picture extension {path.suffix!r}" if path.suffix else "no extension"
        raise InputError(f"can't write {path}: {what}; use one of {' '.join(_WRITERS)}")
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
) -> None:
    """Write a picture whole or not at all: into a temporary file beside it, then renamed.

    JPEG is written with quality 95 and full colour resolution; it has no transparency, so a
    transparent picture is laid on white there.

    Args:
        image: any image this module returned.
        target: where to; the extension chooses PNG, JPEG, WebP or TIFF. Or an open binary file.
        overwrite: whether an existing file may be replaced.
        metadata: what of ``image.info`` is kept: "all" (EXIF and ICC profile), "color" (the
            profile) or "none".
        file_format: of an open binary file, which has no extension.

    Raises:
        InputError: see :func:`check_output`; or the disk is full, the format can't hold the size.
    """
    kept = {"all": ("exif", "icc_profile"), "color": ("icc_profile",), "none": ()}
    if metadata not in kept:
        raise InputError(f"metadata must be one of {', '.join(kept)}, not {metadata!r}")
    info = {key: image.info[key] for key in kept[metadata] if image.info.get(key)}
    if not isinstance(target, str | os.PathLike):
        extension = next(e for e, writer in _WRITERS.items() if writer[0] == file_format)
        _save(image, target, extension, info)
        return
    check_output(target, overwrite=overwrite)
    path = Path(target)
    extension = path.suffix.lower()
    temporary = path.with_name(f".clipmamba-{secrets.token_hex(6)}{extension}")
    try:
        with temporary.open("xb") as file:
            _save(image, file, extension, info)
        check_output(path, overwrite=overwrite)  # it may have appeared while the model worked
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror or _one_line(error)}") from error
    except ValueError as error:  # Pillow's word for metadata or sizes that a format can't hold
        if isinstance(error, InputError):
            raise
        raise InputError(f"can't write {path}: {_one_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _save(image: Image.Image, file: IO[bytes], extension: str, info: dict[str, Any]) -> None:
    """Encode a picture in the format of an extension, converted where that can't hold it."""
    file_format, options, modes = _WRITERS[extension]
    if image.mode not in modes or (file_format == "JPEG" and image.has_transparency_data):
        pixels, alpha = to_srgb(image)
        converted = from_srgb(pixels, alpha, like=image)
        if "icc_profile" in info:
            info = {**info, "icc_profile": converted.info["icc_profile"]}
        if alpha is not None and file_format == "JPEG":
            logger.warning("JPEG holds no transparency: laid on white (use .png to keep it)")
            white = Image.new("RGB", image.size, "white")
            white.paste(converted, mask=alpha)
            converted = white
        image = converted
    image.save(file, format=file_format, **options, **info)


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """Give an ICC profile of sRGB, the same bytes every time."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 36 of an ICC header are the date of making: a fixed one makes equal files equal.
    date = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return profile[:24] + date + profile[36:]


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Decode all pixels, apply the orientation and keep only the metadata that is carried on."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        exif = _exif_bytes(image, upright.size)
    except Image.DecompressionBombError:
        raise InputError(_too_large(name)) from None
    except MemoryError:
        raise InputError(f"{name} does not fit into memory; make it smaller first") from None
    except Exception as error:  # damaged files make decoders raise anything
        raise InputError(f"{name} is damaged or cut short: {_one_line(error)}") from error
    if upright.width == 0 or upright.height == 0:
        raise InputError(f"{name} has no pixels")
    keep = ("icc_profile", "transparency")
    upright.info = {key: upright.info[key] for key in keep if upright.info.get(key) is not None}
    if exif:
        upright.info["exif"] = exif
    return upright


def _exif_bytes(image: Image.Image, size: tuple[int, int]) -> bytes | None:
    """Serialise EXIF for an upright picture, without pixel layout and the stale thumbnail."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_IFD)
        details.update({k: v for k, v in zip(_PIXEL_SIZE, size, strict=True) if k in details})
        kept = Image.Exif()
        for tag, value in exif.items():
            if tag not in _LAYOUT_TAGS:
                kept[tag] = exif.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else value
        return kept.tobytes() if len(kept) else None
    except Exception as error:  # noqa: BLE001 - damaged metadata must not cost the photo
        logger.warning("unreadable EXIF left out: %s", _one_line(error))
        return None


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an ``L``, ``RGB`` or ``CMYK`` image to ``RGB`` in sRGB."""
    if not profile:
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile())),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("unusable colour profile, sRGB assumed: %s", _one_line(error))
        return image.convert("RGB")
    assert converted is not None  # None only for in-place conversion
    return converted


def _too_large(name: str) -> str:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
    return f"{name} has more than {limit} million pixels; make it smaller first"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
