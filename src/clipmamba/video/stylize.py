"""Restyle videos frame by frame."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.devices import check_device
from clipmamba.errors import InputError
from clipmamba.files import check_place, reason, write_whole
from clipmamba.io.memory import memory_errors
from clipmamba.pipelines.ask import read_prompt
from clipmamba.pipelines.keywords import check_keywords
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.styles.request import StyleRequest
from clipmamba.video.frame import Frame, import_av
from clipmamba.video.options import VideoOptions
from clipmamba.video.read import Reader, at_rate, open_video
from clipmamba.video.write import Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipmamba.styles import Style

logger = logging.getLogger("clipmamba")

_STYLE_OPTIONS = ("style_image", "style", "avoid", "source", "templates")


@dataclass(frozen=True)
class VideoReport:
    """The result of `stylize_video`.

    Attributes:
        output: The file written.
        frames: Number of frames in it.
        broken: Number of frames of the source that could not be decoded, or are missing at its end.
        size: Width and height of the frames, in pixels.
    """

    output: Path
    frames: int
    broken: int
    size: tuple[int, int]


def stylize_video(
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    text: str | Sequence[str] | None = None,
    *,
    prompt: str | Sequence[str] | None = None,
    pipeline: StylizePipeline | None = None,
    device: str = "auto",
    model: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    callback: Callable[[int, int | None], None] | None = None,
    **options: Any,
) -> VideoReport:
    """Restyle a video, or an animated GIF or WebP.

        stylize_video("cat.mp4", "cat-ukiyo-e.mp4", "ukiyo-e", max_size=640)

    Sound and subtitles are copied, and frames keep their timestamps. On an interruption (Ctrl-C),
    the frames made so far become the result, unless it would replace an earlier file, and the
    exception is raised again.

    Args:
        video: The source file.
        output: The result, .mp4, .m4v, .mov, .mkv, .webm, .gif or .webp; it appears when it is
            complete.
        text: A prompt, or several to mix; "ukiyo-e:0.7" carries a weight.
        prompt: The same, under the name that the pipeline uses.
        pipeline: A loaded pipeline to use; it is not changed.
        device: Where to compute, if no ``pipeline`` is given.
        model: Folder or Hub name of a saved pipeline, if no ``pipeline`` is given; None for the
            default weights.
        overwrite: Whether ``output`` may be replaced.
        callback: Called with the number of frames done and the estimated total (None if unknown).
        options: Fields of `VideoOptions` (start, end, fps, steady, codec, quality, sound) and of
            `StylizeOptions` except variants (strength, preserve_color, stroke, detail, grain,
            max_size, tile, seed); and style_image, style, avoid, source and templates as in
            `stylize`.

    Raises:
        InputError: An option or a file can't be used, or a package is missing.
        WeightsError: Weights are missing or damaged.
        TypeError: An option is unknown.
    """
    own, shared = ([field.name for field in fields(of)] for of in (VideoOptions, StylizeOptions))
    check_keywords("stylize_video", options, [*_STYLE_OPTIONS, *shared, *own])
    chosen = VideoOptions(**{name: options.pop(name) for name in own if name in options})
    words = {name: options.pop(name) for name in _STYLE_OPTIONS if name in options}
    words["prompt"] = read_prompt(text, prompt)
    look = StylizeOptions(**options)
    StyleRequest.parse(**words)
    if look.variants != 1:
        raise InputError("a video has no variants: choose one with seed")
    target = check_video_output(output, chosen, overwrite=overwrite)
    if os.path.realpath(target) == os.path.realpath(video):
        raise InputError(f"{target} is the source itself; choose another name")
    reader = open_video(Path(video), chosen.start, chosen.end, look.result_size)
    try:
        if pipeline is None:
            check_device(device)
            pipeline = StylizePipeline.from_pretrained(model, device)
        painter = FramePainter(pipeline, words, look, chosen.steady)
        total = reader.count
        if chosen.rate is not None and total is not None:
            total = max(1, round(total * chosen.rate / reader.info.rate))
        with write_whole(target, overwrite=overwrite) as part:
            writer = Writer(target, part, reader.info, chosen, reader.sound, reader.subtitles)
            interruption = _write_frames(reader, painter, writer, chosen, callback, total)
            if interruption is not None and target.exists():
                logger.warning("%s is still the earlier file, which is complete", target)
                raise interruption
    except OSError as error:
        raise InputError(f"can't write {target}: {reason(error)}") from error
    finally:
        reader.close()
    if interruption is not None:
        logger.warning("%s holds the %d frames done so far", target, writer.frames)
        raise interruption
    return VideoReport(target, writer.frames, reader.broken, writer.size)


def _write_frames(
    reader: Reader,
    painter: FramePainter,
    writer: Writer,
    options: VideoOptions,
    callback: Callable[[int, int | None], None] | None,
    total: int | None,
) -> BaseException | None:
    """Write the frames up to the end or an interruption; return the interruption, if any."""
    interruption = None
    try:
        try:
            for item in at_rate(reader, options.rate):
                if not isinstance(item, Frame):
                    writer.copy(item)
                    continue
                writer.write(replace(item, pixels=painter(item.pixels)))
                if callback is not None:
                    callback(writer.frames, total)
        except (KeyboardInterrupt, SystemExit) as error:
            if not writer.frames:
                raise
            interruption = error
        writer.finish()
    finally:
        writer.close()
    return interruption


class FramePainter:
    """Restyles the frames of a video in order, without flicker.

    Args:
        pipeline: The pipeline; it is not changed.
        words: The style, as keywords of `StylizePipeline.encode_style`.
        look: Strength and the other options.
        steady: See `VideoOptions`.
    """

    def __init__(
        self, pipeline: StylizePipeline, words: dict[str, Any], look: StylizeOptions, steady: float
    ) -> None:
        from clipmamba.video.steady import SceneNetwork, Steadier

        style = pipeline.prepare(StyleRequest.parse(**words), [look.seed])
        style.warn_if_unfamiliar()
        asked: Style = style.layers[0].styles[look.seed]
        # Blocks are made last: warped ones would not meet the next frame's.
        self._blocks = look.relative_stroke if asked.has_blocks else None
        self._style = replace(asked, pixelated=0.0)
        self._network = SceneNetwork(pipeline.network_for)  # the same weights, with a memory
        self._pipeline = pipeline.with_network(self._network.sees)
        self._look = {
            name: getattr(look, name)
            for name in ("preserve_color", "stroke", "detail", "grain", "tile", "seed")
        }
        self._strength = look.strength
        self._steadier = Steadier(steady) if steady else None
        self._last: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restyle the next frame, (H, W, 3) uint8; a repeated frame gets the same result."""
        import numpy as np

        if self._last is not None and np.array_equal(self._last[0], pixels):
            return self._last[1]
        if self._strength == 0:
            return pixels
        if self._steadier is None or not self._steadier.look(pixels):
            self._network.begin()
        restyled = None if self._steadier is None else self._steadier.carried()
        if restyled is None:
            restyled = self._restyle(pixels)
            if self._steadier is not None:
                restyled = self._steadier.hold(restyled)
        if self._blocks is not None:
            restyled = _pixelate(restyled, self._blocks)
        # Strength comes last, so that only the style is carried over, never the photo.
        if self._strength != 1:
            photo = pixels.astype(np.float32) / 255
            restyled = np.clip(photo + self._strength * (restyled - photo), 0, 1)
        result = np.round(restyled * 255).astype(np.uint8)
        self._last = (pixels, result)
        return result

    def _restyle(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Restyle one frame at full strength."""
        import numpy as np

        photo = pixels.astype(np.float32) / 255
        frame = f"a frame of {photo.shape[1]} x {photo.shape[0]} pixels"
        with memory_errors(frame, "process it in tiles with tile=512, or give a smaller max_size"):
            restyled: NDArray[np.float32] = self._pipeline(
                photo, style=self._style, **self._look
            ).images[0]
        return restyled


def _pixelate(frame: NDArray[np.float32], stroke: float) -> NDArray[np.float32]:
    from clipmamba.io.convert import array_to_tensor, tensor_to_array
    from clipmamba.pipelines.pixelate import pixelate

    return tensor_to_array(pixelate(array_to_tensor(frame), stroke), frame.dtype)


def check_video_output(
    output: str | os.PathLike[str], options: VideoOptions, *, overwrite: bool = False
) -> Path:
    """Check that a video could be written, before any work.

    Returns:
        The path.

    Raises:
        InputError: It can't be written.
    """
    import_av()
    path = Path(output)
    options.encoding(path)
    check_place(path, overwrite=overwrite)
    return path
