"""A loss on the positions of edges, independent of their strength and color."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.errors import InputError
from clipmamba.io.convert import luma
from clipmamba.losses._common import (
    Reduction,
    full_precision,
    reduce_samples,
    require_images,
    require_same_places,
)


@full_precision
def edge_loss(
    output: Tensor, photo: Tensor, scales: int = 3, reduction: Reduction = "mean"
) -> Tensor:
    r"""Compare the positions of the edges of two pictures.

    .. math:: L = \frac{1}{S} \sum_s 1 - \rho\bigl(|\nabla Y_s(y)|,\; |\nabla Y_s(x)|\bigr)

    with ρ the correlation over all positions and Y_s the luma, halved in size s times. Stronger,
    fainter or recolored edges cost nothing. It needs no network.

    Args:
        output: (B, 3, H, W) in [0, 1].
        photo: The same shape and range.
        scales: S; sizes with a side below 4 pixels are skipped.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar, or (B,) with reduction "none": 0 for equal edges, 1 for unrelated ones, at most 2.

    Raises:
        InputError: The shapes differ, are not those of pictures, or have a side below 4 pixels.
    """
    require_images(output)
    require_same_places(output, photo)
    if min(output.shape[2:]) < 4:
        raise InputError(f"edges need pictures of 4 pixels or more, not {tuple(output.shape)}")
    first, second = luma(output), luma(photo)
    losses = []
    for _ in range(scales):
        maps = [_edges(first), _edges(second)]
        losses.append(1 - (maps[0] * maps[1]).sum(1))
        first, second = avg_pool2d(first, 2), avg_pool2d(second, 2)
        if min(first.shape[2:]) < 4:
            break
    return reduce_samples(torch.stack(losses).mean(0), reduction)


def _edges(light: Tensor) -> Tensor:
    """Compute gradient magnitudes as centered unit rows, (B, positions)."""
    down = light[:, :, 2:, 1:-1] - light[:, :, :-2, 1:-1]
    across = light[:, :, 1:-1, 2:] - light[:, :, 1:-1, :-2]
    strength = (down.square() + across.square() + 1e-6).sqrt().flatten(1)
    strength = strength - strength.mean(1, keepdim=True)
    # a uniform picture has no edges: its row stays near zero
    return strength / (strength.square().sum(1, keepdim=True) + 1e-6).sqrt()
