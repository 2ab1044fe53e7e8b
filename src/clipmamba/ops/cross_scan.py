"""A picture as four sequences and back: rows and columns, both ways."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.errors import InputError

DIRECTIONS = 4


def cross_scan(x: Tensor) -> Tensor:
    """Read a feature map in four orders.

    Args:
        x: (B, D, H, W), any values.

    Returns:
        (B, 4, D, H * W): row by row, row by row from the end, column by column, column by column
        from the end. The adjoint of `cross_merge`.

    Raises:
        InputError: x does not have four axes.
    """
    if x.ndim != 4:
        raise InputError(f"cross_scan wants (B, D, H, W), not {tuple(x.shape)}")
    rows = x.flatten(2)
    columns = x.transpose(2, 3).flatten(2)
    return torch.stack([rows, rows.flip(-1), columns, columns.flip(-1)], dim=1)


def cross_merge(y: Tensor, height: int, width: int) -> Tensor:
    """Add four sequences up where `cross_scan` read them.

    Args:
        y: (B, 4, D, H * W), in the orders of `cross_scan`.
        height: H.
        width: W.

    Returns:
        (B, D, H * W), row by row: the sum of the four directions.

    Raises:
        InputError: y does not have four directions of height * width steps.
    """
    if y.ndim != 4 or y.shape[1] != DIRECTIONS or y.shape[3] != height * width:
        raise InputError(f"cross_merge wants (B, 4, D, {height} * {width}), not {tuple(y.shape)}")
    rows = y[:, 0] + y[:, 1].flip(-1)
    columns = y[:, 2] + y[:, 3].flip(-1)
    return rows + torch.unflatten(columns, -1, (width, height)).transpose(2, 3).flatten(2)
