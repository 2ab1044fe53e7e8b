"""Frames with their timestamps, and the properties that all frames of a video share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        pixels: RGB, (H, W, 3) uint8, upright.
        time: Presentation time in seconds from the start of the result.
        duration: Display time in seconds; 0 if unknown.
        opacity: Alpha, (H, W) uint8; None if opaque.
        pixel_aspect: Width of a pixel divided by its height.
    """

    pixels: NDArray[np.uint8]
    time: Fraction
    duration: Fraction = Fraction(0)
    opacity: NDArray[np.uint8] | None = None
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class VideoInfo:
    """The properties that all frames of a video share.

    Attributes:
        rate: Average frames per second.
        time_base: Unit of the timestamps, in seconds.
        matrix: Color matrix, as FFmpeg's number (AVCOL_SPC).
        full_range: Whether the encoded pixels use the full range, 0 to 255.
        primaries: Color primaries, as FFmpeg's number (AVCOL_PRI); 2 means unknown.
        transfer: Transfer function, as FFmpeg's number (AVCOL_TRC); 2 means unknown.
        repetitions: How often an animation repeats after it has played once; 0 means forever,
            -1 never.
        tags: Title, author and so on.
        chapters: Start and end in seconds of the result, and tags such as the title.
    """

    rate: Fraction
    time_base: Fraction
    matrix: int = 1
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    repetitions: int = 0
    tags: tuple[tuple[str, str], ...] = ()
    chapters: tuple[tuple[Fraction, Fraction, Mapping[str, str]], ...] = ()


def import_av() -> Any:
    """Import PyAV, which reads and writes videos.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise InputError("video needs more packages: pip install 'clipmamba[video]'") from None
    return av
