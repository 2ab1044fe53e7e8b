"""Metrics of restyled pictures besides style: palette, content, diversity, artifacts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmamba.io.color import LUMA

Array = NDArray[np.float32]

GRID_PERIODS = (2, 4, 8)  # periods of upsampling artifacts, in pixels


def pixels(image: Image.Image) -> Array:
    """Convert a picture to float32 (H, W, 3) in [0, 1]."""
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def brightness(image: Image.Image) -> Array:
    """Compute the Rec. 709 luma (H, W) in [0, 1]."""
    luma: Array = (pixels(image) @ np.array(LUMA)).astype(np.float32)
    return luma


def palette(image: Image.Image, bins: int = 6) -> Array:
    """Compute a histogram (bins³,) of colors, smoothed between bins, with sum 1."""
    colors = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX), np.float32)
    count, _ = np.histogramdd(colors.reshape(-1, 3), bins=bins, range=[(0, 256)] * 3)
    for axis in range(3):
        padded = np.pad(count, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        lower = padded.take(range(bins), axis)
        upper = padded.take(range(2, bins + 2), axis)
        count = 0.5 * count + 0.25 * (lower + upper)
    result: Array = (count / count.sum()).ravel().astype(np.float32)
    return result


def palette_distance(image: Image.Image, palettes: Array) -> float:
    """Compute the mean Hellinger distance in [0, 1] to the nearest quarter of palettes (N, K)."""
    own = np.sqrt(palette(image))
    distances = np.sqrt(np.maximum(0, 1 - np.sqrt(palettes) @ own))
    nearest = np.sort(distances)[: max(1, len(distances) // 4)]
    return float(nearest.mean())


def edge_similarity(output: Image.Image, photo: Image.Image, side: int = 256) -> float:
    """Compute the structural similarity of two edge maps in [-1, 1]; 1 if every edge is kept."""
    from skimage.filters import sobel
    from skimage.metrics import structural_similarity

    maps = []
    for image in (output, photo):
        edges = sobel(brightness(_short_side(image, side)))
        maps.append(edges / (np.percentile(edges, 99) + 1e-6))
    return float(structural_similarity(*maps, data_range=1.0, gaussian_weights=True, sigma=1.5))


def faces_kept(
    output: Image.Image, photo: Image.Image, faces: Sequence[tuple[float, float, float, float]]
) -> float:
    """Compute the mean structural similarity of edges inside faces, in [-1, 1].

    Args:
        output: The restyled picture.
        photo: Its photo.
        faces: At least one box (left, top, right, bottom), as fractions of width and height.
    """
    kept = []
    for left, top, right, bottom in faces:
        parts = []
        for image in (output, photo):
            width, height = image.size
            box = (left * width, top * height, right * width, bottom * height)
            parts.append(image.convert("RGB").crop(box))
        kept.append(edge_similarity(parts[0], parts[1], side=96))
    return float(np.mean(kept))


def layout_similarity(output: Image.Image, photo: Image.Image, cells: int = 16) -> float:
    """Compute the correlation of the luma of 16×16 cells in [-1, 1]; negative for a negative."""
    grids = []
    for image in (output, photo):
        grid = image.convert("RGB").resize((cells, cells), Image.Resampling.BOX)
        values = brightness(grid).ravel()
        grids.append((values - values.mean()) / (values.std() + 1e-6))
    return float((grids[0] * grids[1]).mean())


def difference(first: Image.Image, second: Image.Image, side: int = 64) -> float:
    """Compute the RMS difference of two pictures' colors at 64 px, in [0, 1]."""
    size = (side, side)
    small = [pixels(image.resize(size, Image.Resampling.BOX)) for image in (first, second)]
    return float(np.sqrt(np.square(small[0] - small[1]).mean()))


def diversity(images: Sequence[Image.Image]) -> float:
    """Compute the mean `difference` over all pairs."""
    pairs = [
        difference(first, second)
        for place, first in enumerate(images)
        for second in images[place + 1 :]
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def grid_energy(image: Image.Image) -> float:
    """Compute the power at periods of 2, 4 and 8 px relative to neighboring ones; 1 for no grid.

    This is the geometric mean over the periods and over the spectra of rows and columns.
    """
    luma = brightness(image)
    height, width = (length // 64 * 64 for length in luma.shape)
    if min(height, width) < 64:
        raise ValueError(f"a picture of {luma.shape} is too small; give at least 64 px per side")
    luma = luma[:height, :width]
    ratios = []
    for axis in (0, 1):
        window = np.hanning(luma.shape[axis]).astype(np.float32)
        detail = np.diff(luma, axis=axis, append=luma.take([-1], axis=axis))
        detail = detail * np.expand_dims(window, 1 - axis)
        power = np.square(np.abs(np.fft.rfft(detail, axis=axis))).mean(axis=1 - axis)
        for period in GRID_PERIODS:
            place = luma.shape[axis] // period
            around = np.r_[power[place - 6 : place - 2], power[place + 3 : place + 7]]
            ratios.append(power[place - 1 : place + 2].mean() / (around.mean() + 1e-12))
    return float(np.exp(np.mean(np.log(np.maximum(ratios, 1e-6)))))


def saturated(image: Image.Image) -> float:
    """Compute the share of pixels that are black or have a channel at 255, except for white."""
    values = np.asarray(image.convert("RGB"))
    low, high = values.min(axis=2), values.max(axis=2)
    clipped = (high == 0) | ((high == 255) & (low < 250))
    return float(clipped.mean())


def _short_side(image: Image.Image, side: int) -> Image.Image:
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
