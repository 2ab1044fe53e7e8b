"""What goes between reading and writing: frames with their time, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        pixels: R, G and B, (H, W, 3) uint8, upright.
        time: Seconds from the beginning of the result.
        duration: Seconds that it is shown; 0 if the file does not say.
        opacity: (H, W) uint8; None: opaque.
        pixel_aspect: Width of a pixel in heights.
    """

    pixels: NDArray[np.uint8]
    time: Fraction
    duration: Fraction = Fraction(0)
    opacity: NDArray[np.uint8] | None = None
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class VideoInfo:
    """What the frames of a video share.

    Attributes:
        rate: Average frames per second.
        time_base: Unit of the time stamps, in seconds.
        matrix: Between RGB and the encoded pixels, FFmpeg's number (AVCOL_SPC).
        full_range: Whether the encoded pixels use all values from 0 to 255.
        primaries: FFmpeg's number (AVCOL_PRI); 2: unknown.
        transfer: FFmpeg's number (AVCOL_TRC); 2: unknown.
        loops: Of an animation: how often it is played; 0: for ever.
        tags: Title, author and so on.
    """

    rate: Fraction
    time_base: Fraction
    matrix: int = 1
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    loops: int = 0
    tags: tuple[tuple[str, str], ...] = ()


def import_av() -> Any:
    """PyAV, which reads and writes videos.

    Raises:
        InputError: It is not installed.
    """
    try:
        import av
    except ImportError:
        raise InputError("video needs more packages: pip install 'clipmamba[video]'") from None
    return av
