"""Write a video: encoded frames, and copied sound and subtitles."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from clipmamba.errors import InputError
from clipmamba.video.animation import end_at
from clipmamba.video.frame import Frame, VideoInfo, import_av
from clipmamba.video.options import VideoOptions
from clipmamba.video.read import sws_matrix

logger = logging.getLogger("clipmamba")

_ENCODERS_TAG = ("encoder", "major_brand", "minor_version", "compatible_brands")
# Files that record the pixel aspect ratio, and encoders that record it in every file.
_ASPECT_FILES = (".mp4", ".m4v", ".mov")
_ASPECT_ENCODERS = ("libx264", "libx265")
_CHAPTER_UNIT = Fraction(1, 1000)  # seconds
_TRACK_TAGS = ("language", "title")
_NO_REORDERING = 2  # clips of at most so many frames have no B-frames; x265 gives them no dts
_GIF_COLORS = 255  # plus one for transparency


class Writer:
    """Encodes frames and copies other streams into a file.

    Args:
        path: The result, for messages; its extension chooses the container.
        part: The temporary file to write.
        info: Properties of the source.
        options: Codec, quality, frame rate, sound.
        sound: Audio streams whose packets will be copied.
        subtitles: Subtitle streams, too; those that the file can't hold are left out.

    Attributes:
        frames: Number of frames written.
        size: Width and height of the frames, in pixels.

    Raises:
        InputError: The file can't be written or can't hold the sound.
    """

    def __init__(
        self,
        path: Path,
        part: Path,
        info: VideoInfo,
        options: VideoOptions,
        sound: tuple[Any, ...] = (),
        subtitles: tuple[Any, ...] = (),
    ) -> None:
        self.path = path
        self.frames = 0
        self.size = (0, 0)
        self._last = -1
        self._durations: dict[int, int] = {}  # by timestamp, of frames inside the encoder
        self._shown = (Fraction(0), Fraction(0))  # from the first frame to the end of the last
        self._info = info
        self._encoding = options.encoding(path)
        self._rate = options.rate
        self._kind = path.suffix.lower()
        self._part = part
        self._sound = sound if options.sound and self._encoding is not None else ()
        self._subtitles = subtitles if self._encoding is not None else ()
        self._container: Any = None
        self._waiting: list[Any] = []  # packets to copy from before the first frame
        self._video: Any = None
        self._copies: dict[int, Any] = {}  # by the stream's index in the source

    def write(self, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            InputError: The frame can't be encoded or written.
        """
        av = import_av()
        try:
            frame = self._displayable(frame)
            if self._container is None:
                self._open(frame)
            stamp = round(frame.time / self._time_base)
            if stamp <= self._last:  # GIF counts hundredths of a second
                return
            self._last = stamp
            picture = self._picture(frame)
            picture.time_base, picture.pts = self._time_base, stamp
            duration = frame.duration or 1 / (self._rate or self._info.rate)
            begin = self._shown[0] if self.frames else frame.time
            self._shown = (begin, frame.time + duration)
            self._durations[stamp] = max(1, round(duration / self._time_base))
            picture.duration = self._durations[stamp]
            self._mux(picture)
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"can't write {self.path}: {error.strerror or error}") from error
        self.frames += 1
        self.size = (frame.pixels.shape[1], frame.pixels.shape[0])

    def copy(self, packet: Any) -> None:
        """Copy a packet of sound or subtitles."""
        if self._container is None:
            self._waiting.append(packet)
        elif packet.stream.index in self._copies:
            packet.stream = self._copies[packet.stream.index]
            self._container.mux(packet)

    def finish(self) -> None:
        """Flush the encoder and close the file.

        Raises:
            InputError: The file can't be written, or there were no frames.
        """
        av = import_av()
        if self._container is None:
            raise InputError(f"there are no frames to write to {self.path}")
        try:
            self._mux(None)
            self._container.close()
            if self._encoding is None:
                begin, end = self._shown
                end_at(self._part, end - begin)
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"can't write {self.path}: {error.strerror or error}") from error

    def _mux(self, picture: Any) -> None:
        """Encode a frame, or the rest with None, and write the packets that are ready."""
        packets = self._video.encode(picture)
        last = self._durations.get(self._last)
        for packet in packets:  # encoders lose durations, and players need that of the last frame
            packet.duration = self._durations.pop(packet.pts, packet.duration)
        if picture is None and packets and last:  # MP4 takes it from the packet decoded last
            packets[-1].duration = last
        for packet in packets:
            if picture is None and self.frames <= _NO_REORDERING:
                packet.dts = packet.pts
            self._container.mux(packet)

    def close(self) -> None:
        """Close the file, finished or not."""
        if self._container is not None:
            self._container.close()

    def _open(self, frame: Frame) -> None:
        av = import_av()
        height, width = frame.pixels.shape[:2]
        options = {}
        if self._encoding is None:
            repetitions = self._info.repetitions
            if self._kind == ".webp" and repetitions:  # it counts how often it plays
                repetitions = min(max(1, repetitions + 1), 65_535)
            options["loop"] = str(repetitions)
        elif self._kind in (".mp4", ".m4v", ".mov"):
            options["movflags"] = "+faststart"
        self._container = av.open(str(self._part), "w", container_options=options)
        self._container.metadata.update(
            {key: text for key, text in self._info.tags if key not in _ENCODERS_TAG}
        )
        if self._encoding is not None:
            self._container.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(begin / _CHAPTER_UNIT),
                        "end": round(end / _CHAPTER_UNIT),
                        "time_base": _CHAPTER_UNIT,
                        "metadata": dict(tags),
                    }
                    for number, (begin, end, tags) in enumerate(self._info.chapters, 1)
                ]
            )
        rate = (self._rate or self._info.rate).limit_denominator(60_000)
        self._time_base = self._info.time_base if self._rate is None else 1 / self._rate
        if self._encoding is None:
            is_gif = self._kind == ".gif"
            self._video = self._container.add_stream("gif" if is_gif else "libwebp_anim", rate=rate)
            self._video.pix_fmt = "pal8" if is_gif else "bgra"
            if not is_gif:
                # libwebp's lossy animations lose their transparency.
                lossless = frame.opacity is not None
                self._video.options = {"lossless": "1"} if lossless else {"quality": "90"}
            self._time_base = Fraction(1, 100 if self._kind == ".gif" else 1000)
        else:
            codec, quality = self._encoding
            if codec.encoder == "libsvtav1":
                os.environ.setdefault("SVT_LOG", "1")  # errors only; it has no option for that
            if min(width, height) < codec.smallest:
                raise InputError(
                    f"{self.path}: the encoder {codec.encoder} needs frames of at least "
                    f"{codec.smallest}x{codec.smallest} pixels, not {width}x{height}; choose "
                    "another codec (--codec)"
                )
            self._video = self._container.add_stream(codec.encoder, rate=rate)
            self._video.pix_fmt = codec.pix_fmt
            if codec.pix_fmt == "yuv420p":  # chroma at half size
                width, height = width + width % 2, height + height % 2
            self._video.options = dict(codec.options)
            if quality is not None:
                self._video.options |= {"crf": str(quality)}
            self._video.codec_context.sample_aspect_ratio = frame.pixel_aspect
            self._tag(self._video.codec_context)
            if codec.encoder == "libx265" and self._kind != ".mkv":
                self._video.codec_context.codec_tag = "hvc1"  # needed by Apple's players
        self._video.width, self._video.height = width, height
        self._video.codec_context.time_base = self._time_base
        self._video.codec_context.open()
        try:
            for template in self._sound:
                self._add_copy(template)
            self._add_subtitles()
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if not self._sound:
                raise
            names = ", ".join(template.codec_context.name for template in self._sound)
            raise InputError(
                f"{self._kind} can't hold the sound ({names}); write an .mkv file, or leave the "
                "sound out (--no-sound)"
            ) from error
        for packet in self._waiting:
            self.copy(packet)
        self._waiting.clear()

    def _add_copy(self, template: Any) -> None:
        """Add a stream that is copied from the source."""
        stream = self._container.add_stream_from_template(template)
        tags = template.metadata
        stream.metadata.update({key: tags[key] for key in _TRACK_TAGS if key in tags})
        if "title" in tags:  # the name of a track in MP4; other files ignore it
            stream.metadata["handler_name"] = tags["title"]
        stream.disposition = template.disposition.value
        self._copies[template.index] = stream

    def _add_subtitles(self) -> None:
        known = self._container.supported_codecs
        for template in self._subtitles:
            name = template.codec_context.name
            if name in known:
                self._add_copy(template)
            else:
                logger.warning(
                    "%s can't hold subtitles of the kind %s; they are left out", self._kind, name
                )

    def _displayable(self, frame: Frame) -> Frame:
        """Make pixels square where the file can't record that they are not."""
        recorded = self._encoding is not None and (
            self._kind in _ASPECT_FILES or self._encoding[0].encoder in _ASPECT_ENCODERS
        )
        if recorded or frame.pixel_aspect == 1:
            return frame
        import numpy as np

        height, width = frame.pixels.shape[:2]
        size = (  # no side grows, because of --max-size
            max(1, round(width * min(frame.pixel_aspect, 1))),
            max(1, round(height / max(frame.pixel_aspect, 1))),
        )

        def scaled(values: Any) -> Any:
            return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.LANCZOS))

        opacity = None if frame.opacity is None else scaled(frame.opacity)
        return Frame(scaled(frame.pixels), frame.time, frame.duration, opacity)

    def _tag(self, codec: Any) -> None:
        """Set the color tags to those of the source."""
        info = self._info
        codec.color_primaries, codec.color_trc = info.primaries, info.transfer
        if codec.pix_fmt == "yuv420p":
            codec.colorspace, codec.color_range = info.matrix, 2 if info.full_range else 1

    def _picture(self, frame: Frame) -> Any:
        """Convert a frame to the encoder's pixel format."""
        import numpy as np

        av = import_av()
        pixels, opacity = frame.pixels, frame.opacity
        if self._kind == ".gif":
            return av.VideoFrame.from_ndarray(_with_palette(pixels, opacity), format="pal8")
        if self._kind == ".webp":
            full = np.full(pixels.shape[:2], 255, np.uint8) if opacity is None else opacity
            values = np.concatenate([pixels[..., ::-1], full[..., None]], axis=2)
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="bgra")
        if opacity is not None:  # composite on white
            part = opacity[..., None].astype(np.float32) / 255
            pixels = np.round(255 + (pixels.astype(np.float32) - 255) * part).astype(np.uint8)
        height, width = pixels.shape[:2]
        edges = ((0, self._video.height - height), (0, self._video.width - width), (0, 0))
        picture = av.VideoFrame.from_ndarray(np.pad(pixels, edges, mode="edge"), format="rgb24")
        encoded = picture.reformat(
            format=self._video.pix_fmt, src_color_range=2,
            dst_colorspace=sws_matrix(self._info.matrix),
            dst_color_range=2 if self._info.full_range or self._video.pix_fmt == "bgr0" else 1,
        )  # fmt: skip
        return encoded


def _with_palette(pixels: Any, opacity: Any) -> tuple[Any, Any]:
    """Quantize to indices (H, W) and an ARGB palette (256, 4)."""
    import numpy as np

    image = Image.fromarray(pixels).quantize(_GIF_COLORS, Image.Quantize.MEDIANCUT)
    indices = np.asarray(image).copy()
    palette = np.zeros((256, 4), np.uint8)
    palette[:_GIF_COLORS, 0] = 255
    colors = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[:_GIF_COLORS]
    palette[: len(colors), 1:] = colors
    if opacity is not None:
        indices[opacity < 128] = _GIF_COLORS
    return indices, palette
