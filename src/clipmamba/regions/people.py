"""People and background, by GrabCut (Rother et al. 2004), started from faces.

Each face predicts where the head and shoulders are; OpenCV's graph cut then separates their colors
from those around. People who turn away are not found: that takes a segmenter.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipmamba.io.convert import rescale, tensor_to_array
from clipmamba.regions.edges import follow_edges
from clipmamba.regions.faces import find_faces

WORKING_SIDE = 384  # pixels of the longest side that the graph cut sees
_ROUNDS = 5

Labels = NDArray[np.uint8]


def mask_people(photo: Tensor) -> Tensor:
    """Make a soft mask of the people whose faces are found, (1, 1, H, W); all 0 without a face.

    Args:
        photo: sRGB in [0, 1], (1, 3, H, W).

    Raises:
        WeightsError: The package `mtcnn` is missing or of another version.
    """
    import cv2

    height, width = photo.shape[2:]
    faces = find_faces(photo)
    if not len(faces):
        return photo.new_zeros(1, 1, height, width)
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small = rescale(photo, scale).clamp(0, 1)
    pixels = tensor_to_array(small, np.dtype(np.uint8))
    labels = _expect((faces * scale).tolist(), small.shape[2], small.shape[3])
    if (labels == cv2.GC_BGD).any():  # otherwise there is no background to learn from
        cv2.setRNGSeed(0)  # its color clusters start at random
        models = np.zeros((2, 1, 65))
        labels, *_ = cv2.grabCut(
            pixels[..., ::-1].copy(), labels, None, models[0], models[1], _ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )  # fmt: skip
    person = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    rough = torch.from_numpy(person.astype(np.float32))[None, None].to(photo)
    return follow_edges(rough, photo)


def _expect(faces: list[list[float]], height: int, width: int) -> Labels:
    """The labels that GrabCut starts from, (H, W), in proportion to each face."""
    import cv2

    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    for expected, label in (
        (_around, cv2.GC_PR_BGD),
        (_body, cv2.GC_PR_FGD),
        (_core, cv2.GC_FGD),
    ):
        for left, top, right, bottom in faces:
            inside = expected(*_grid(left, top, right, bottom, height, width))
            labels[inside] = label
    return labels


def _grid(
    left: float, top: float, right: float, bottom: float, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in units of a face: x from its center in widths, y from its chin in heights."""
    y, x = np.mgrid[:height, :width] + 0.5
    return (x - (left + right) / 2) / (right - left), (y - bottom) / (bottom - top)


def _around(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a person can be."""
    reach: NDArray[np.bool_] = (np.abs(x) < 3.0) & (y > -2.0)
    return reach


def _body(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Head with hair, neck, shoulders up to three faces wide, and everything below them."""
    head = (x / 0.75) ** 2 + ((y + 0.6) / 0.95) ** 2 < 1
    shoulders = (y > 0.1) & (np.abs(x) < np.clip(0.45 + 1.6 * (y - 0.1), 0.45, 1.5))
    both: NDArray[np.bool_] = head | shoulders
    return both


def _core(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What certainly belongs to a person: the face, and the chest below it."""
    face = (x / 0.42) ** 2 + ((y + 0.5) / 0.5) ** 2 < 1
    chest: NDArray[np.bool_] = face | ((y > 0) & (y < 1.5) & (np.abs(x) < 0.35))
    return chest
