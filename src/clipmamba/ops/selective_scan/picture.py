"""The selective scan over pictures, along rows and columns, both ways."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.errors import InputError

from .dispatch import choose
from .interface import DIRECTIONS, Backend, ScanInputs, check_inputs


def cross_scan(x: Tensor) -> Tensor:
    """Flatten a feature map in four scan orders.

    Args:
        x: (B, D, H, W).

    Returns:
        (B, 4, D, H * W): row by row, the same in reverse, column by column, the same in reverse.
        The adjoint of `cross_merge`.

    Raises:
        InputError: x does not have four axes.

    Examples:
        >>> cross_scan(torch.arange(6).reshape(1, 1, 2, 3))[0, :, 0]
        tensor([[0, 1, 2, 3, 4, 5],
                [5, 4, 3, 2, 1, 0],
                [0, 3, 1, 4, 2, 5],
                [5, 2, 4, 1, 3, 0]])
    """
    if x.ndim != 4:
        raise InputError(f"cross_scan needs (B, D, H, W), not {tuple(x.shape)}")
    rows = x.flatten(2)
    columns = x.transpose(2, 3).flatten(2)
    return torch.stack([rows, rows.flip(-1), columns, columns.flip(-1)], dim=1)


def cross_merge(y: Tensor, height: int, width: int) -> Tensor:
    """Add four sequences up at the positions where `cross_scan` read them.

    Args:
        y: (B, 4, D, H * W), in the orders of `cross_scan`.
        height: H.
        width: W.

    Returns:
        The sum of the four directions, row by row, (B, D, H * W).

    Raises:
        InputError: y does not have four directions of height * width steps.
    """
    if y.ndim != 4 or y.shape[1] != DIRECTIONS or y.shape[3] != height * width:
        raise InputError(f"cross_merge needs (B, 4, D, {height} * {width}), not {tuple(y.shape)}")
    rows = y[:, 0] + y[:, 1].flip(-1)
    columns = y[:, 2] + y[:, 3].flip(-1)
    return rows + torch.unflatten(columns, -1, (width, height)).transpose(2, 3).flatten(2)


def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    least_delta: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    r"""Scan a picture in four directions and add up the results.

    The same as `selective_scan` between `cross_scan` and `cross_merge`:

    .. math:: y = \text{merge}(\text{scan}(\text{cross}(x), \delta, A, B, C, D))

    but the fused kernels, `cpu` and `triton`, read x in place, in either memory format, and
    accumulate the directions in place: no four copies of x or of the results are made. Only
    the inputs that differ by direction, delta, B and C, are in each direction's own order:
    row by row, the same in reverse, column by column, the same in reverse.

    Liu et al., "VMamba: Visual State Space Model", NeurIPS 2024 (its SS2D). Differentiable in every
    tensor; state and arithmetic are float32, or float64 if x is.

    Args:
        x: (B, D, H, W), floating-point.
        delta: (B, 4, D, H * W), step sizes in the directions' orders; positive after bias and
            softplus.
        A: (4 * D, N), real, negative for a stable state; grouped by direction, like D and
            delta_bias.
        B: (B, 4, N, H * W), in the directions' orders.
        C: (B, 4, N, H * W), in the directions' orders.
        D: (4 * D,), skip connection of each direction.
        delta_bias: (4 * D,), added to delta.
        delta_softplus: pass delta through softplus.
        least_delta: added to the step sizes after that, at least 0.
        backend: "auto" or a name from `backend_table()`.

    Returns:
        (B, D, H, W), of x's dtype.

    Raises:
        InputError: shapes are inconsistent, tensors complex or integer, or the backend is unknown.
        BackendError: the named backend can't run this call.
    """
    if x.ndim != 4 or delta.ndim != 4 or 0 in x.shape:
        raise InputError(
            "cross_selective_scan needs x (B, D, H, W) and delta (B, 4, D, H * W), none of them "
            f"empty, not {tuple(x.shape)} and {tuple(delta.shape)}"
        )
    batch, channels, height, width = x.shape
    if delta.shape != (batch, DIRECTIONS, channels, height * width) or B.shape[1:2] != (4,):
        raise InputError(
            f"cross_selective_scan: delta is {tuple(delta.shape)} and B {tuple(B.shape)}, not "
            f"{(batch, DIRECTIONS, channels, height * width)} and (B, 4, N, {height * width})"
        )
    inputs = ScanInputs(
        u=x,
        delta=delta.flatten(1, 2),
        A=A,
        B=B,
        C=C,
        D=D,
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
        least_delta=least_delta,
    )
    check_inputs(inputs, "cross_selective_scan")
    call = inputs.call(last_state=False)
    chosen = choose(call, backend)
    if chosen.scan_picture is None:
        return _composed(chosen, inputs, call.needs_grad)
    return chosen.scan_picture(inputs, call.needs_grad)[0]


def _composed(backend: Backend, inputs: ScanInputs, needs_grad: bool) -> Tensor:
    """Scan four copies with the scan of sequences."""
    x = inputs.u
    height, width = x.shape[2:]
    y, _ = backend.scan(inputs._replace(u=cross_scan(x).flatten(1, 2)), needs_grad)
    y = torch.unflatten(y, 1, (DIRECTIONS, -1))
    return torch.unflatten(cross_merge(y, height, width), 2, (height, width))
