"""Small real clips, made by FFmpeg's encoders."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (48, 32)


def moving(count: int = 6, width: int = SIZE[0], height: int = SIZE[1]) -> list[np.ndarray]:
    """A soft pattern that moves by a pixel per frame."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return [
        np.stack(
            [
                128 + 90 * np.sin((x + turn) / 5),
                128 + 90 * np.sin((y + x + turn) / 7),
                128 + 90 * np.cos((x + turn) / 9),
            ],
            axis=2,
        ).astype(np.uint8)
        for turn in range(count)
    ]


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[Fraction] | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: str | None = None,
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    tags: dict[str, int] | None = None,
    b_frames: int = 0,
) -> Path:
    """Encode frames (H, W, 3), by default 10 of them per second."""
    times = times or [Fraction(index, 10) for index in range(len(frames))]
    clock = Fraction(1, 10 if path.suffix == ".avi" else 1000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = clock
        video.codec_context.sample_aspect_ratio = aspect
        if codec != "libx264":
            video.codec_context.max_b_frames = b_frames
        if codec == "libx264":
            video.options = {"crf": "4", "g": "3"}
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if rotation:
            video.set_display_rotation(rotation)
        if sound:
            audio = container.add_stream(sound, rate=8000, layout="mono")
        full = (tags or {}).get("color_range") == 2
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(
                format=pix_fmt,
                dst_colorspace=5,
                src_color_range=2,
                dst_color_range=2 if full else 1,
            )
            frame.time_base, frame.pts = clock, round(time / clock)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            wave = np.sin(np.arange(8000) / 9).astype(np.float32)[None] / 2
            for start in range(0, 8000, 800):
                part = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 800]), format="fltp", layout="mono"
                )
                part.sample_rate, part.pts = 8000, start
                part.time_base = Fraction(1, 8000)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def remux(
    path: Path,
    sources: Sequence[Path],
    tags: Sequence[dict[str, str]] = (),
    chapters: Sequence[tuple[int, int, str]] = (),
    first: bool = False,
) -> Path:
    """Copy the streams of several files into one; of all but the first, no picture.

    Args:
        path: The file to write.
        sources: Videos, and subtitles in SubRip.
        tags: Tags of each stream.
        chapters: Start and end in milliseconds, and title.
        first: Whether the index comes first in an MP4 file.
    """
    options = {"movflags": "+faststart"} if first else {}
    with av.open(str(path), "w", container_options=options) as out:
        opened = [av.open(str(source)) for source in sources]
        copies = {
            stream: out.add_stream_from_template(stream)
            for number, source in enumerate(opened)
            for stream in source.streams
            if number == 0 or stream.type != "video"
        }
        for copy, found in zip(copies.values(), tags, strict=False):
            copy.metadata.update(found)
        out.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000),
                 "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(chapters, 1)
            ]
        )  # fmt: skip
        for source in opened:
            for packet in source.demux():
                if packet.dts is not None and packet.stream in copies:
                    packet.stream = copies[packet.stream]
                    out.mux(packet)
    return path


def read_clip(path: Path) -> tuple[list[np.ndarray], list[Fraction], Any]:
    """Pixels and times of every frame by FFmpeg, as they are stored, and the first frame."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts * frame.time_base for frame in frames]
    return [frame.to_ndarray(format="rgb24") for frame in frames], times, frames[0]


def sound_of(path: Path) -> list[bytes]:
    """The packets of the sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]
