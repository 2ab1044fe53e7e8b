"""The stylizer as an ONNX file for apps without Python: any height, width and batch."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.files import reason, write_whole
from clipmamba.models.gamut import into_gamut
from clipmamba.models.stylizer import STRIDE, stroke_for_network
from clipmamba.models.view import StylizerView
from clipmamba.nn import MambaMixer
from clipmamba.ops import scan_backend

_TRACED = (61, 45)  # any size works; with odd ones, no dimension is mistaken for a constant
_OPSET = 18


class AnySize(nn.Module):
    """A network including its margin; the padding to multiples of 8 follows from the noise's size.

    Args:
        network: A view of a stylizer in evaluation mode; its stroke size is not built in.
        style: A built-in style for every photo, (1, E); None if `forward` takes styles.
        gamut: Whether to map colors outside sRGB into its gamut.
    """

    style: Tensor | None

    def __init__(self, network: StylizerView, style: Tensor | None = None, gamut: bool = True):
        super().__init__()
        self.gamut, self.guidance = gamut, network.guidance
        self.stylizer = copy.deepcopy(network.stylizer)
        for module in self.stylizer.modules():
            if isinstance(module, MambaMixer):
                module.each_line = True
        self.register_buffer("style", style)

    def forward(
        self,
        photo: Tensor,
        noise: Tensor,
        stroke: Tensor,
        style: Tensor | None = None,
    ) -> Tensor:
        """Restyle photos.

        Args:
            photo: sRGB in [0, 1], (B, 3, H, W).
            noise: Standard normal numbers for the photo with its margin, (1, n, 2 h, 2 w) with
                h = ceil((H + 2 margin) / 8), w = ceil((W + 2 margin) / 8).
            stroke: Stroke size relative to the default, (1,).
            style: Unit style embeddings (B, E).

        Returns:
            Pictures (B, 3, H, W), sRGB in [0, 1], or of any range without `gamut`.

        Raises:
            ValueError: there is neither `style` nor a built-in one.
        """
        height, width = photo.shape[2:]
        if self.style is not None:
            style = self.style.expand(photo.shape[0], -1)
        if style is None:
            raise ValueError("no style is built in: give one for each photo")
        margin = self.stylizer.margin  # cropped again, since scans start in another tone
        below, right = (
            self.stylizer.noise_stride * cells - side - margin
            for cells, side in zip(noise.shape[2:], (height, width), strict=True)
        )
        padded = F.pad(photo, (margin, right, margin, below), mode="replicate")
        # sizes as tensors of the graph, since Python's max() would not be traced
        sides = torch.stack([torch.scalar_tensor(height), torch.scalar_tensor(width)])
        sizes = stroke_for_network(stroke, sides.amax(0)).expand(photo.shape[0])
        picture = self.stylizer.restyle(padded, style, noise, stroke=sizes, guidance=self.guidance)
        picture = picture[:, :, margin : margin + height, margin : margin + width]
        return into_gamut(picture) if self.gamut else picture


def write_onnx(
    network: StylizerView,
    path: Path,
    style: Tensor | None = None,
    gamut: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Export a network as ONNX, float32, opset 18; the file is written atomically.

    Batch size, height and width are dynamic.

    Args:
        network: `StylizePipeline.network`, on the CPU.
        path: The file; an existing one is replaced.
        style: A built-in style for every photo, (1, E); None if the file takes styles as an input.
        gamut: Whether to map colors outside sRGB into its gamut; without, a caller can resize the
            picture first, as the pipeline does.
        metadata: What an app should know about the file, by name.

    Returns:
        Lines that describe the file's inputs and output.

    Raises:
        InputError: the file can't be written.
    """
    from clipmamba.ops.selective_scan.interop.onnx import TRANSLATIONS

    model = AnySize(network, style, gamut).eval()
    stylizer = model.stylizer
    height, width = _TRACED
    around = 2 * stylizer.margin
    cells = STRIDE // stylizer.noise_stride
    photo = torch.rand(2, 3, height, width)
    noise = stylizer.draw_noise(height + around, width + around)
    free, rows, columns = torch.export.Dim.DYNAMIC, torch.export.Dim("h"), torch.export.Dim("w")
    given: dict[str, Tensor] = {"photo": photo, "noise": noise, "stroke": torch.ones(1)}
    noise_shape = {2: cells * rows, 3: cells * columns}
    shapes = {"photo": {0: free, 2: free, 3: free}, "noise": noise_shape, "stroke": {}}
    if style is None:
        given["style"] = F.normalize(torch.randn(2, stylizer.config.style_dim), dim=1)
        shapes["style"] = {0: free}
    # One operator per scan, whatever backend this machine would use.
    with scan_backend("torch"), torch.no_grad(), _quiet():
        program = torch.onnx.export(
            model,
            kwargs=given,
            dynamic_shapes=shapes,
            input_names=list(given),
            output_names=["picture"],
            opset_version=_OPSET,
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.model.metadata_props.update(metadata or {})
    try:
        with write_whole(path) as part:
            program.save(str(part))
    except OSError as error:
        raise InputError(f"can't write {path}: {reason(error)}") from error
    around //= stylizer.noise_stride
    lines = {
        "photo": "(batch, 3, H, W), sRGB in [0, 1]",
        "noise": f"(1, {stylizer.config.noise}, {cells} * ceil(H / 8) + {around}, "
        f"{cells} * ceil(W / 8) + {around}), standard normal",
        "style": f"(batch, {stylizer.config.style_dim}), unit rows",
        "stroke": "(1), stroke size, 0.5 to 2",
        "picture": f"(batch, 3, H, W), sRGB {'in [0, 1]' if gamut else 'of any range'}",
    }
    return tuple(f"{name:<8}{lines[name]}" for name in (*given, "picture"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about dependent sizes, which are intended."""
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
