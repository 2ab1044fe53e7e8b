"""Read videos and animations as upright frames with timestamps, without the damaged frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence, UnidentifiedImageError

from clipmamba.errors import InputError
from clipmamba.video.frame import Frame, VideoInfo, import_av

logger = logging.getLogger("clipmamba")

Size = Callable[[int, int], tuple[int, int]]
_RGB, _UNKNOWN, _BT709, _BT601 = 0, 2, 1, 6  # color matrices, FFmpeg's AVCOL_SPC
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_SWS_709, _SWS_601, _SWS_2020 = 1, 5, 9
_HD = 720  # untagged video of at least this height is read as BT.709, as players do
_SEEK_EARLIER = (0, 2, 10, 60)  # seconds before the time to read from; then the beginning
_MAX_ERRORS = 100  # consecutive errors after which reading stops
_LASTING = ("mov", "matroska", "avi")  # formats whose header tells how long the file lasts
_MISSING = Fraction(1, 2)  # second that may be missing at the end: not all headers are exact


class Reader:
    """A video or animation to iterate over once.

    Attributes:
        info: Properties of all frames.
        sound: PyAV audio streams to copy.
        subtitles: PyAV subtitle streams to copy.
        count: Estimated number of frames; None if unknown.
        broken: Number of frames that could not be decoded so far.
    """

    info: VideoInfo
    sound: tuple[Any, ...] = ()
    subtitles: tuple[Any, ...] = ()
    count: int | None = None

    def __init__(self, path: Path, start: float, end: float | None, size: Size) -> None:
        self.path = path
        self.broken = 0
        self._start = Fraction(float(start)).limit_denominator(1_000_000)
        self._end = None if end is None else Fraction(float(end)).limit_denominator(1_000_000)
        self._size = size

    def __iter__(self) -> Iterator[Frame | Any]:
        """Yield frames, and PyAV packets to copy, with shifted timestamps."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError

    def _expect(self, duration: float | Fraction | None) -> int | None:
        """Estimate the number of frames to read from a video of this duration in seconds."""
        if not duration:
            return None
        end = duration if self._end is None else min(duration, self._end)
        return max(1, round((end - self._start) * self.info.rate)) if end > self._start else None

    def _too_late(self, end: Fraction) -> InputError:
        """The error for a start after the end of the video, in seconds."""
        return InputError(
            f"{self.path} ends at {float(end):.2f} s; start before that, not at "
            f"{float(self._start):.2f} s"
        )

    def _report(self, what: str) -> None:
        self.broken += 1
        if self.broken == 1:
            logger.warning("%s: %s; skipping such frames", self.path, what)


def open_video(
    path: Path, start: float = 0, end: float | None = None, size: Size = lambda *size: size
) -> Reader:
    """Open a file for reading.

    Args:
        path: A video, or an animated GIF or WebP.
        start: Time in seconds at which to start.
        end: Time in seconds before which to stop; None reads to the end.
        size: Maps the width and height of an upright frame to those wanted.

    Raises:
        InputError: The file is missing or not a video, or a package is missing.
    """
    try:
        if path.exists() and not path.is_file():  # it is opened several times
            raise InputError(f"{path} is a folder or a pipe; a video must be a file")
        with path.open("rb") as file:
            header = file.read(12)
    except FileNotFoundError:
        if str(path) == "-":
            raise InputError("a video can't come from standard input; give a file") from None
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    if header[:4] == b"GIF8" or (header[:4], header[8:]) == (b"RIFF", b"WEBP"):
        return AnimationReader(path, start, end, size)
    return StreamReader(path, start, end, size)


class StreamReader(Reader):
    """Reads any video that FFmpeg supports."""

    def __init__(self, path: Path, start: float, end: float | None, size: Size) -> None:
        super().__init__(path, start, end, size)
        av = import_av()
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"can't read {path} as a video: {error.strerror}") from error
        cover = av.stream.Disposition.attached_pic  # of a song or a film
        videos = [s for s in self._container.streams.video if not s.disposition & cover]
        if not videos:
            self._container.close()
            raise InputError(f"{path} has no video stream; give a video")
        self._video = videos[0]
        self._is_avi = self._container.format.name == "avi"
        self._video.thread_type = "AUTO"
        self.sound = tuple(self._container.streams.audio)
        self.subtitles = tuple(self._container.streams.subtitles)
        self._origin = Fraction(max(0, self._container.start_time or 0), av.time_base)
        self.info = self._read_info()
        self._frame_size: tuple[int, int] | None = None
        self._duration = Fraction(self._container.duration or 0, av.time_base)
        if self._is_avi and self._video.frames and self._video.average_rate:
            # Of a cut-off AVI file, FFmpeg guesses the duration from its size.
            self._duration = self._video.frames / self._video.average_rate
        self.count = self._expect(self._duration)
        if self.count is None and self._video.frames and not start and end is None:
            self.count = self._video.frames

    def _read_info(self) -> VideoInfo:
        video, codec = self._video, self._video.codec_context
        matrix = codec.colorspace
        if matrix in (_RGB, _UNKNOWN):
            rgb = codec.pix_fmt is not None and codec.format.is_rgb
            matrix = _BT709 if rgb or codec.height >= _HD else _BT601
        rate = video.average_rate or video.guessed_rate or Fraction(25)
        return VideoInfo(
            rate=Fraction(rate),
            time_base=Fraction(video.time_base),
            matrix=matrix,
            full_range=codec.color_range == _FULL_RANGE or str(codec.pix_fmt).startswith("yuvj"),
            primaries=codec.color_primaries,
            transfer=codec.color_trc,
            tags=tuple(self._container.metadata.items()),
            chapters=tuple(self._chapters()),
        )

    def _chapters(self) -> Iterator[tuple[Fraction, Fraction, dict[str, str]]]:
        """Find the chapters of the selected part."""
        for chapter in self._container.chapters():
            unit, shift = chapter["time_base"], self._origin + self._start
            begin = max(chapter["start"] * unit - shift, Fraction(0))
            end = _earlier(chapter["end"] * unit - self._origin, self._end) - self._start
            if begin < end:
                yield begin, end, chapter["metadata"]

    def __iter__(self) -> Iterator[Frame | Any]:
        """See `Reader`."""
        unit = self.info.time_base  # stay on its grid, so that no two timestamps coincide
        begin = (self._origin + self._start) // unit * unit
        end = None if self._end is None else self._origin + self._end
        if self._start:
            self._seek(begin)
        last: Fraction | None = None
        until = Fraction(0)
        held: Frame | None = None  # the frame on display when the selected part begins
        for packet in self._packets():
            if packet.stream is not self._video:
                time = None if packet.pts is None else packet.pts * packet.time_base
                if time is None or (self._start and time < begin) or (end and time >= end):
                    continue
                shift = round(begin / packet.time_base)
                if end and packet.stream.type == "subtitle" and packet.duration:
                    packet.duration = min(packet.duration, round((end - time) / packet.time_base))
                packet.pts -= shift
                packet.dts = packet.pts if packet.dts is None else packet.dts - shift
                yield packet
                continue
            for picture in self._decode(packet):
                time = self._time(picture, last)
                if last is not None and time <= last:
                    self._report("a frame's timestamp does not increase")
                    continue
                last = time
                if end is not None and time >= end:
                    break
                frame = self._frame(picture, max(time - begin, Fraction(0)))
                until = time + (frame.duration or 1 / self.info.rate)
                shown = _earlier(until, end) - max(time, begin)
                frame = replace(frame, duration=max(shown, Fraction(0)))
                if time < begin:
                    held = frame
                    continue
                if held is not None and time > begin:
                    yield held
                held = None
                yield frame
            if end is not None and last is not None and last >= end and not self._late_sound(end):
                break
        if held is not None and last is not None:  # the last frame, which stays as long as sound
            until = max(until, self._origin + self._duration)
            if begin >= until:
                raise self._too_late(until - self._origin)
            yield replace(held, duration=_earlier(until, end) - begin)

    def _seek(self, time: Fraction) -> None:
        """Go to a place from which the frame on display at a time in seconds is decoded.

        Without an index, as in MPEG-TS, FFmpeg may land after the key frame that it needs.
        """
        av = import_av()
        for earlier in _SEEK_EARLIER:
            if time - earlier <= self._origin:
                break
            place = int((time - earlier) * av.time_base)
            self._container.seek(place)
            first = self._next_time()
            if first is not None and first <= time:
                self._container.seek(place)
                return
        self._container.seek(0)

    def _next_time(self) -> Fraction | None:
        """Return the time of the next whole frame; None at the end, or at damage."""
        av = import_av()
        try:
            for packet in self._container.demux(self._video):
                for picture in packet.decode():
                    if not picture.is_corrupt:
                        return self._time(picture, None)
        except av.FFmpegError:
            return None
        return None

    def _late_sound(self, end: Fraction) -> bool:
        """Tell whether sound from before `end` may still follow, up to a second later."""
        return bool(self.sound) and self._reached < end + 1

    def _packets(self) -> Iterator[Any]:
        av = import_av()
        packets = self._container.demux(self._video, *self.sound, *self.subtitles)
        self._reached = until = Fraction(0)
        count = errors = 0
        while errors < _MAX_ERRORS:
            try:
                packet = next(packets)
            except (StopIteration, av.EOFError):
                self._check_end(until - self._origin, count)
                return
            except av.FFmpegError as error:
                errors += 1
                self._report(f"a packet can't be read: {error.strerror}")
                continue
            errors = 0
            if packet.dts is not None:
                self._reached = max(self._reached, packet.dts * packet.time_base)
                stamp = packet.dts if packet.pts is None else packet.pts
                until = max(until, (stamp + (packet.duration or 0)) * packet.time_base)
                count += packet.stream is self._video
            yield packet

    def _check_end(self, until: Fraction, count: int) -> None:
        """Report a file that ends before the time that its header tells, as a partial copy does.

        Args:
            until: The end of the last packet, in seconds.
            count: Number of frames up to there.
        """
        expected = _earlier(self._duration, self._end)
        if until < expected - _MISSING and self._container.format.name.startswith(_LASTING):
            per_second = count / max(until - self._start, _MISSING)
            self.broken += max(1, round((expected - until) * per_second))
            logger.warning(
                "%s is cut off: it ends at %.2f of %.2f s", self.path, until, self._duration
            )

    def _decode(self, packet: Any) -> Iterator[Any]:
        av = import_av()
        try:
            pictures = packet.decode()
        except av.FFmpegError as error:
            self._report(f"a frame is damaged: {error.strerror}")
            return
        for picture in pictures:
            if picture.is_corrupt:
                self._report("a frame is damaged")
            else:
                yield picture

    def _time(self, picture: Any, last: Fraction | None) -> Fraction:
        stamp, other = picture.pts, picture.dts
        if self._is_avi:  # AVI stores decoding timestamps only, and the last frame may have none
            stamp, other = other, stamp if last is None else None
        stamp = other if stamp is None else stamp
        if stamp is not None:
            return Fraction(stamp * picture.time_base)
        return self._origin if last is None else last + 1 / self.info.rate

    def _frame(self, picture: Any, time: Fraction) -> Frame:
        import numpy as np

        transposed, flip_x, flip_y = _orientation(picture)
        width, height = picture.width, picture.height
        if self._frame_size is None:  # all frames get the size of the first
            self._frame_size = self._size(*((height, width) if transposed else (width, height)))
        width, height = self._frame_size[::-1] if transposed else self._frame_size
        has_opacity = any(part.is_alpha for part in picture.format.components)
        pixels = picture.reformat(
            width=width, height=height, format="rgba" if has_opacity else "rgb24",
            src_colorspace=sws_matrix(self.info.matrix),
            src_color_range=2 if self.info.full_range or picture.format.is_rgb else 1,
            dst_color_range=2, interpolation="AREA" if width < picture.width else "BICUBIC",
        ).to_ndarray()  # fmt: skip
        if transposed:
            pixels = pixels.swapaxes(0, 1)
        pixels = pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        duration = Fraction((picture.duration or 0) * picture.time_base)
        opacity = np.ascontiguousarray(pixels[..., 3]) if has_opacity else None
        aspect = Fraction(self._video.sample_aspect_ratio or 1)
        aspect = 1 / aspect if transposed else aspect
        return Frame(np.ascontiguousarray(pixels[..., :3]), time, duration, opacity, aspect)

    def close(self) -> None:
        """See `Reader`."""
        self._container.close()


class AnimationReader(Reader):
    """Reads GIF and WebP with Pillow."""

    def __init__(self, path: Path, start: float, end: float | None, size: Size) -> None:
        super().__init__(path, start, end, size)
        try:
            self._image = Image.open(path, formats=("GIF", "WEBP"))
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"can't read {path} as an animation: {error}") from error
        count = getattr(self._image, "n_frames", 1)
        duration = self._image.info.get("duration") or 100
        # GIF counts repetitions, and plays once without a count; WebP counts how often it plays.
        repetitions = self._image.info.get("loop", -1 if self._image.format == "GIF" else 0)
        if self._image.format == "WEBP" and repetitions:
            repetitions = repetitions - 1 or -1
        self.info = VideoInfo(
            rate=Fraction(1000, round(duration)), time_base=Fraction(1, 1000), full_range=False,
            repetitions=repetitions,
        )  # fmt: skip
        self.count = count if not start and end is None else None

    def __iter__(self) -> Iterator[Frame]:
        """See `Reader`."""
        import numpy as np

        self._start = Fraction(int(self._start * 1000), 1000)
        time, frames = Fraction(0), iter(ImageSequence.Iterator(self._image))
        while self._end is None or time < self._end:
            try:
                image = next(frames)
                shown = image.convert("RGBA")
            except StopIteration:
                if time <= self._start:
                    raise self._too_late(time) from None
                return
            except (OSError, SyntaxError, ValueError) as error:
                self._report(f"the rest of the animation is damaged: {error}")
                return
            duration = Fraction(round(image.info.get("duration") or 100), 1000)
            if time + duration > self._start:
                at = max(time - self._start, Fraction(0))
                size = self._size(*shown.size)
                if size != shown.size:
                    shown = shown.resize(size, Image.Resampling.LANCZOS)
                values = np.asarray(shown)
                opacity = values[..., 3].copy() if values[..., 3].min() < 255 else None
                until = _earlier(time + duration, self._end)
                yield Frame(values[..., :3].copy(), at, until - self._start - at, opacity)
            time += duration

    def close(self) -> None:
        """See `Reader`."""
        self._image.close()


def sws_matrix(matrix: int) -> int:
    """Translate a color matrix (AVCOL_SPC) to the numbering of FFmpeg's scaler (SWS_CS)."""
    return {_BT709: _SWS_709, 9: _SWS_2020, 10: _SWS_2020, 7: 7, 4: 4}.get(matrix, _SWS_601)


def _earlier(time: Fraction, end: Fraction | None) -> Fraction:
    """Return the time, or the end of the selected part if that comes before it."""
    return time if end is None else min(time, end)


def at_rate(frames: Reader, rate: Fraction | None) -> Iterator[Frame | Any]:
    """Drop or repeat frames, so that there is one every 1 / `rate` seconds.

    Packets of sound pass through unchanged.
    """
    if rate is None:
        yield from frames
        return
    held: Frame | None = None
    shown = 0
    for item in frames:
        if not isinstance(item, Frame):
            yield item
            continue
        while held is not None and shown / rate < item.time:
            yield replace(held, time=shown / rate, duration=1 / rate)
            shown += 1
        held = item
    if held is not None:
        end = held.time + (held.duration or 1 / frames.info.rate)
        while shown / rate < end:
            yield replace(held, time=shown / rate, duration=1 / rate)
            shown += 1


def _orientation(picture: Any) -> tuple[bool, bool, bool]:
    """Tell whether to transpose a frame, and then whether to flip it along x and y."""
    import numpy as np

    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0
