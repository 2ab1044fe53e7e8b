"""Reading of masks, which select the part of a photo to restyle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from clipmamba.errors import InputError
from clipmamba.io.color import LUMA, to_srgb
from clipmamba.io.picture import read_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ONE_LEVEL = 1.5 / 255
_TOLERANCE = 0.02  # relative, on the aspect ratio, for masks drawn on a scaled preview


def check_shape(mask: Image.Image, size: tuple[int, int], name: str = "the mask") -> None:
    """Check that a mask has the aspect ratio of a photo of this width and height.

    Raises:
        InputError: the aspect ratio differs.
    """
    aspect, wanted = mask.width / mask.height, size[0] / size[1]
    if abs(aspect / wanted - 1) > _TOLERANCE:
        raise InputError(
            f"{name} is {mask.width}x{mask.height}, the photo {size[0]}x{size[1]}: "
            "give a mask with the photo's aspect ratio"
        )


def read_mask(
    source: str | os.PathLike[str] | Image.Image | bytes | BinaryIO, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Read a mask and resize it to a photo.

    Args:
        source: a picture; white areas are restyled, black ones kept, gray ones blended. If it has
            transparency and only one color, its alpha channel is the mask. Levels 0 and 1 alone
            mean black and white.
        size: width and height of the photo, in pixels.

    Returns:
        (H, W) in [0, 1].

    Raises:
        InputError: the mask can't be read, or its aspect ratio differs from the photo's.
    """
    import numpy as np

    name = f"mask {os.fspath(source)}" if isinstance(source, str | os.PathLike) else "the mask"
    picture = read_picture(source)
    check_shape(picture, size, name)
    pixels, alpha = to_srgb(picture)
    values: NDArray[np.floating[Any]] = pixels @ np.array(LUMA)
    if alpha is not None:
        opacity = np.asarray(alpha, np.float32) / 255
        flat = float(values[opacity > 0].std()) < 1e-3 if (opacity > 0).any() else True
        values = opacity if flat else values * opacity
    if 0 < values.max() < _ONE_LEVEL:  # levels 0 and 1, as from a segmenter
        values = values / values.max()
    mask = Image.fromarray(np.ascontiguousarray(values, np.float32))
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(mask, np.float32), 0, 1)
