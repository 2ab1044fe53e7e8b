"""Options for the part of a video to restyle and its encoding; imports neither torch nor PyAV."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from pathlib import Path

from clipmamba.errors import InputError
from clipmamba.pipelines.options import is_whole


@dataclass(frozen=True)
class Codec:
    """A video codec and its settings.

    Attributes:
        encoder: FFmpeg's encoder name.
        pix_fmt: FFmpeg's pixel format.
        quality: Default constant rate factor (CRF); None if lossless.
        limits: Best and worst CRF.
        smallest: Smallest width and height that the encoder takes, in pixels.
        options: Further FFmpeg options.
    """

    encoder: str
    pix_fmt: str = "yuv420p"
    quality: int | None = None
    limits: tuple[int, int] = (0, 63)
    smallest: int = 1
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", quality=18, limits=(0, 51)),
    "h265": Codec(
        "libx265", quality=22, limits=(0, 51), smallest=64,  # below that, it corrupts memory
        options=(("x265-params", "log-level=error"),),
    ),
    "vp9": Codec("libvpx-vp9", quality=28, options=(("b", "0"), ("row-mt", "1"))),
    "av1": Codec("libsvtav1", quality=28, smallest=64),  # it hangs on some smaller videos
    "ffv1": Codec("ffv1", pix_fmt="bgr0"),
}  # fmt: skip
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
    """Meaning, defaults and limits of the video options.

    Args:
        start: Time in seconds at which to start in the source.
        end: Time in seconds before which to stop in the source; None goes on to its end.
        fps: Frames per second of the result, 0.1 to 240, by dropping or repeating frames. None
            keeps every frame's timestamp, also at a variable frame rate.
        steady: Share of the style that is carried over from the previous frame, along the motion
            of the scene, in [0, 1). 0 restyles every frame on its own; higher values flicker less.
            Above 0, up to every second frame is made from the previous one alone, where the
            motion explains all of it.
        codec: "h264", "h265", "vp9", "av1" or "ffv1" (lossless); None takes the first of these
            that the container supports.
        quality: Constant rate factor (CRF) of the codec; lower means better quality and a larger
            file. None takes the codec's default.
        sound: Copy the sound, without re-encoding.

    Raises:
        InputError: A value is out of range.
    """

    start: float = 0.0
    end: float | None = None
    fps: float | Fraction | None = None
    steady: float = 0.88
    codec: str | None = None
    quality: int | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        for name in ("start", "end", "fps", "steady"):
            value = getattr(self, name)
            if value is None and name in ("end", "fps"):
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise InputError(f"{name} must be a number, not {value!r}")
        if self.quality is not None and not is_whole(self.quality):
            raise InputError(f"quality must be a whole number, not {self.quality!r}")
        if not isinstance(self.sound, bool):
            raise InputError(f"sound must be True or False, not {self.sound!r}")
        if not 0 <= self.start < math.inf:
            raise InputError(f"start must be at least 0 seconds, not {self.start}")
        if self.end == math.inf:
            raise InputError("end must be finite; None goes on to the end of the video")
        if self.end is not None and not self.start < self.end:
            raise InputError(f"end ({self.end} s) must be after start ({self.start} s)")
        if self.fps is not None and not 0.1 <= self.fps <= 240:
            raise InputError(f"fps must be between 0.1 and 240, not {self.fps}")
        if not 0 <= self.steady < 1:
            raise InputError(f"steady must be at least 0 and less than 1, not {self.steady}")
        if self.codec is not None and self.codec not in list(CODECS):  # also if unhashable
            raise InputError(f"unknown codec {self.codec!r}; use one of {', '.join(CODECS)}")

    @property
    def rate(self) -> Fraction | None:
        """Frames per second as a fraction: 29.97 means 30000/1001."""
        if self.fps is None:
            return None
        exact = self.fps if isinstance(self.fps, Fraction) else Fraction(float(self.fps))
        if exact.denominator == 1:
            return exact
        ntsc = Fraction(round(exact * Fraction(1001, 1000)) * 1000, 1001)
        return ntsc if abs(ntsc - exact) < Fraction(1, 100) else exact.limit_denominator(1001)

    def encoding(self, output: Path) -> tuple[Codec, int | None] | None:
        """Choose codec and quality for a file; None for GIF and WebP, which have their own.

        Raises:
            InputError: The container does not support the codec, or the quality is out of range.
        """
        suffix = output.suffix.lower()
        if suffix in ANIMATIONS:
            for name in ("codec", "quality"):
                if getattr(self, name) is not None:
                    raise InputError(f"{output} is a GIF or WebP animation: leave out the {name}")
            return None
        if suffix not in _IN_FILE:
            raise InputError(
                f"can't write {output}: use one of the extensions {' '.join(WRITABLE_VIDEO)}"
            )
        name = self.codec or _IN_FILE[suffix][0]
        if name not in _IN_FILE[suffix]:
            fitting = ", ".join(ending for ending, names in _IN_FILE.items() if name in names)
            raise InputError(f"{suffix} can't hold {name}; write to one of {fitting}")
        codec = CODECS[name]
        quality = codec.quality if self.quality is None else self.quality
        if self.quality is not None and codec.quality is None:
            raise InputError(f"{name} is lossless: leave out the quality")
        best, worst = codec.limits
        if quality is not None and not best <= quality <= worst:
            raise InputError(
                f"the quality of {name} must be between {best} and {worst}, not {quality}"
            )
        return codec, quality
