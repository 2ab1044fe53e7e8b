"""The stylizer as an ONNX file for apps without Python: any height, width and batch."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.files import reason, write_whole
from clipmamba.models.gamut import into_gamut
from clipmamba.models.stylizer import Stylizer
from clipmamba.ops import scan_backend

_TRACED = (61, 45)  # any size does; an odd one leaves no number to be taken for a constant
_OPSET = 18


class AnySize(nn.Module):
    """A stylizer with its margin; the padding to multiples of 8 follows the noise's size.

    Args:
        stylizer: In evaluation mode.
        style: (1, E), a style for every photo; without it `forward` takes styles.
    """

    style: Tensor | None

    def __init__(self, stylizer: Stylizer, style: Tensor | None = None):
        super().__init__()
        self.stylizer = stylizer
        self.register_buffer("style", style)

    def forward(self, photo: Tensor, noise: Tensor, style: Tensor | None = None) -> Tensor:
        """Restyle photos.

        Args:
            photo: sRGB in [0, 1], (B, 3, H, W).
            noise: Standard normal numbers for the photo with its margin, (1, n, 4 h, 4 w) with
                h = ceil((H + 2 margin) / 8), w = ceil((W + 2 margin) / 8).
            style: Unit style points (B, E).

        Returns:
            Pictures (B, 3, H, W), sRGB in [0, 1].

        Raises:
            ValueError: neither `style` nor a built-in one.
        """
        height, width = photo.shape[2:]
        if self.style is not None:
            style = self.style.expand(photo.shape[0], -1)
        if style is None:
            raise ValueError("no style is built in: give one for each photo")
        margin = self.stylizer.margin  # cut off again: the scans begin in another tone
        below, right = (
            2 * cells - side - margin
            for cells, side in zip(noise.shape[2:], (height, width), strict=True)
        )
        padding = (margin, right, margin, below)
        padded = F.pad(photo, padding, mode="replicate")
        picture: Tensor = self.stylizer.restyle(padded, style, noise)
        return into_gamut(picture[:, :, margin : margin + height, margin : margin + width])


def write_onnx(stylizer: Stylizer, path: Path, style: Tensor | None = None) -> tuple[str, ...]:
    """Write a stylizer as ONNX, float32, opset 18; the file appears only when it is whole.

    Batch, height and width stay free. Each scan of the network is a standard `Scan` of the file.

    Args:
        stylizer: On the CPU.
        path: The file; one that is there is replaced.
        style: A style point (1, E) for every photo; without it the file takes styles.

    Returns:
        Lines that say what the file's inputs and output are.

    Raises:
        InputError: the file can't be written.
    """
    from clipmamba.ops.selective_scan.interop.onnx import TRANSLATIONS

    height, width = _TRACED
    around = 2 * stylizer.margin
    photo = torch.rand(2, 3, height, width)
    noise = stylizer.draw_noise(height + around, width + around)
    free, rows, columns = torch.export.Dim.DYNAMIC, torch.export.Dim("h"), torch.export.Dim("w")
    given: list[Tensor] = [photo, noise]
    shapes = [{0: free, 2: free, 3: free}, {2: 4 * rows, 3: 4 * columns}]
    if style is None:
        given.append(F.normalize(torch.randn(2, stylizer.config.style_dim), dim=1))
        shapes.append({0: free})
    names = ["photo", "noise", "style"][: len(given)]
    model = AnySize(stylizer, style).eval()
    # One operator per scan, however this machine would run it.
    with scan_backend("torch"), torch.no_grad(), _quiet():
        program = torch.onnx.export(
            model,
            tuple(given),
            dynamic_shapes=tuple(shapes),
            input_names=names,
            output_names=["picture"],
            opset_version=_OPSET,
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    try:
        with write_whole(path) as part:
            program.save(str(part))
    except OSError as error:
        raise InputError(f"can't write {path}: {reason(error)}") from error
    lines = [
        "photo   (batch, 3, H, W), sRGB in [0, 1]",
        f"noise   (1, {stylizer.config.noise}, 4 * ceil(H / 8) + {around // 2}, "
        f"4 * ceil(W / 8) + {around // 2}), standard normal",
        f"style   (batch, {stylizer.config.style_dim}), unit rows",
    ]
    return (*lines[: len(given)], "picture (batch, 3, H, W), sRGB in [0, 1]")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of what is meant: sizes that follow one another."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
