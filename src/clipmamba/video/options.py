"""What part of a video is restyled, and how the result is encoded; no torch and no PyAV here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from clipmamba.errors import InputError


@dataclass(frozen=True)
class Codec:
    """How a kind of video is encoded.

    Attributes:
        encoder: FFmpeg's name.
        pix_fmt: Layout of the encoded pixels.
        quality: The usual constant quality (CRF); None where nothing is lost.
        limits: The best and the worst quality.
        options: FFmpeg's options beside it.
    """

    encoder: str
    pix_fmt: str = "yuv420p"
    quality: int | None = None
    limits: tuple[int, int] = (0, 63)
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", quality=18, limits=(0, 51)),
    "h265": Codec(
        "libx265", quality=22, limits=(0, 51), options=(("x265-params", "log-level=error"),)
    ),
    "vp9": Codec("libvpx-vp9", quality=28, options=(("b", "0"), ("row-mt", "1"))),
    "av1": Codec("libsvtav1", quality=28),
    "ffv1": Codec("ffv1", pix_fmt="bgr0"),
}
_IN_FILE = {
    ".mp4": ("h264", "h265", "av1"),
    ".m4v": ("h264", "h265"),
    ".mov": ("h264", "h265"),
    ".mkv": ("h264", "h265", "vp9", "av1", "ffv1"),
    ".webm": ("vp9", "av1"),
}
ANIMATIONS = (".gif", ".webp")
WRITABLE_VIDEO = (*_IN_FILE, *ANIMATIONS)


@dataclass(frozen=True)
class VideoOptions:
    """The one place of the video options' meaning, defaults and limits.

    Args:
        start: Seconds of the source to leave out at its beginning.
        end: Second of the source to stop before; None: go on to its end.
        fps: Frames per second of the result, by leaving frames out or showing them longer. None:
            every frame keeps its own time stamp, also at a variable rate.
        steady: How much of a place's style is carried over from the frame before, along the motion
            of the scene: 0 restyles every frame for itself, more holds the style more still.
        codec: "h264", "h265", "vp9", "av1" or "ffv1" (lossless); None: the first of these that the
            extension of the result is for.
        quality: Constant quality (CRF) of the codec: lower is better and larger; None: its usual.
        sound: Copy the sound, without encoding it again.

    Raises:
        InputError: A value outside its limits.
    """

    start: float = 0.0
    end: float | None = None
    fps: float | Fraction | None = None
    steady: float = 0.88
    codec: str | None = None
    quality: int | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise InputError(f"start must be a number of seconds from 0 up, not {self.start}")
        if self.end is not None and not self.start < self.end:
            raise InputError(f"end ({self.end} s) must lie behind start ({self.start} s)")
        if self.fps is not None and not 0.1 <= self.fps <= 240:
            raise InputError(f"fps must lie between 0.1 and 240, not {self.fps}")
        if not 0 <= self.steady < 1:
            raise InputError(f"steady must be at least 0 and less than 1, not {self.steady}")
        if self.codec is not None and self.codec not in CODECS:
            raise InputError(f"unknown codec {self.codec!r}; use one of {', '.join(CODECS)}")

    @property
    def rate(self) -> Fraction | None:
        """Frames per second as a fraction: 29.97 means 30000/1001."""
        if self.fps is None:
            return None
        exact = Fraction(self.fps)
        if exact.denominator == 1:
            return exact
        ntsc = Fraction(round(exact * Fraction(1001, 1000)) * 1000, 1001)
        return ntsc if abs(ntsc - exact) < Fraction(1, 100) else exact.limit_denominator(1001)

    def encoding(self, output: Path) -> tuple[Codec, int | None] | None:
        """The codec and quality for a file; None for GIF and WebP, which have their own.

        Raises:
            InputError: A file that can't hold this, or a quality that the codec does not have.
        """
        suffix = output.suffix.lower()
        if suffix in ANIMATIONS:
            if self.codec is not None:
                raise InputError(f"{output} is an animation: leave out the codec")
            return None
        if suffix not in _IN_FILE:
            raise InputError(
                f"can't write {output}: use an extension of {' '.join(WRITABLE_VIDEO)}"
            )
        name = self.codec or _IN_FILE[suffix][0]
        if name not in _IN_FILE[suffix]:
            fitting = ", ".join(ending for ending, names in _IN_FILE.items() if name in names)
            raise InputError(f"{suffix} can't hold {name}; write to one of {fitting}")
        codec = CODECS[name]
        quality = codec.quality if self.quality is None else self.quality
        if self.quality is not None and codec.quality is None:
            raise InputError(f"{name} loses nothing: leave out the quality")
        best, worst = codec.limits
        if quality is not None and not best <= quality <= worst:
            raise InputError(
                f"the quality of {name} lies between {best} and {worst}, not {quality}"
            )
        return codec, quality
