"""The selective scan over a picture, rows and columns, both ways, in one operator."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clipmamba.errors import InputError

from .cross_scan import DIRECTIONS, cross_merge, cross_scan
from .selective_scan import cpu, triton
from .selective_scan.dispatch import choose
from .selective_scan.interface import Backend, ScanInputs, check_inputs

__all__ = ["cross_selective_scan"]

# Backends that read a picture where it lies.
_KERNELS: dict[str, ModuleType] = {"cpu": cpu, "triton": triton}


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
    r"""Scan a picture in four directions and add the results up.

    The same as `selective_scan` between `cross_scan` and `cross_merge`:

    .. math:: y = \text{merge}(\text{scan}(\text{cross}(x), \delta, A, B, C, D))

    but the fused kernels, `cpu` and `triton`, read x where it lies, in either memory format, and
    add the directions up where they end; neither four copies of x nor four results are made. Only
    the inputs that differ by direction, delta, B and C, come in each direction's own order:
    row by row, row by row from the end, column by column, column by column from the end.

    Liu et al., "VMamba: Visual State Space Model", NeurIPS 2024 (its SS2D). Differentiable in every
    tensor; state and arithmetic are float32, for a float64 x float64.

    Args:
        x: (B, D, H, W), floating.
        delta: (B, 4, D, H * W), step sizes in the directions' orders; positive after bias and
            softplus.
        A: (4 * D, N), real, negative for a stable state; the directions' channels one after the
            other, as in D and delta_bias.
        B: (B, 4, N, H * W), in the directions' orders.
        C: (B, 4, N, H * W), likewise.
        D: (4 * D), skip connection of each direction.
        delta_bias: (4 * D), added to delta.
        delta_softplus: pass delta through softplus.
        least_delta: added to the step sizes after that, at least 0.
        backend: "auto" or a name of `backend_table()`.

    Returns:
        (B, D, H, W) in x's type.

    Raises:
        InputError: shapes that don't fit, complex or integer tensors, an unknown backend.
        BackendError: the named backend can't run this call.
    """
    if x.ndim != 4 or delta.ndim != 4 or 0 in x.shape:
        raise InputError(
            "cross_selective_scan wants x (B, D, H, W) and delta (B, 4, D, H * W), none of them "
            f"empty, not {tuple(x.shape)} and {tuple(delta.shape)}"
        )
    batch, channels, height, width = x.shape
    if delta.shape != (batch, DIRECTIONS, channels, height * width) or B.shape[1:2] != (4,):
        raise InputError(
            f"cross_selective_scan: delta is {tuple(delta.shape)} and B {tuple(B.shape)}, not "
            f"{(batch, DIRECTIONS, channels, height * width)} and (B, 4, N, {height * width})"
        )
    delta = delta.flatten(1, 2)
    inputs = ScanInputs(delta, delta, A, B, C, D, None, delta_bias, None, delta_softplus)
    inputs = inputs._replace(least_delta=least_delta)
    check_inputs(inputs, "cross_selective_scan")
    inputs = inputs._replace(u=x)
    call = inputs.call(last_state=False)
    chosen = choose(call, backend)
    if chosen.name not in _KERNELS:
        return _composed(chosen, inputs, call.needs_grad)
    fields = (x, delta, A, B, C, D, delta_bias, delta_softplus, least_delta)
    out: Tensor = forward_op(*fields, call.needs_grad, chosen.name)[0]
    return out


def _composed(backend: Backend, inputs: ScanInputs, needs_grad: bool) -> Tensor:
    """Four copies through the scan of sequences."""
    x = inputs.u
    height, width = x.shape[2:]
    y, _ = backend.scan(inputs._replace(u=cross_scan(x).flatten(1, 2)), needs_grad)
    y = torch.unflatten(y, 1, (DIRECTIONS, -1))
    return torch.unflatten(cross_merge(y, height, width), 2, (height, width))


# The operator: fields of ScanInputs without z and the initial state, u being the picture.
_INPUTS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? delta_bias, "
    "bool delta_softplus, float least_delta"
)


def _flat(inputs: tuple[Any, ...]) -> tuple[ScanInputs, int, int]:
    """The inputs with the picture as (B, D, H * W), a view if its rows follow each other."""
    x, delta, A, B, C, D, delta_bias, *options = inputs
    given = ScanInputs(x.flatten(2), delta, A, B, C, D, None, delta_bias, None, *options)
    return given, x.shape[2], x.shape[3]


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    *fields, save_states, kernel = inputs
    flat, height, width = _flat(tuple(fields))
    out, saved = _KERNELS[kernel].cross_forward(flat, height, width, save_states)
    return torch.unflatten(out.to(flat.u.dtype), 2, (height, width)), saved


def _backward(dout: Tensor, saved: Tensor, *inputs: Any) -> list[Tensor]:
    *fields, kernel = inputs
    flat, height, width = _flat(tuple(fields))
    grads = _KERNELS[kernel].cross_backward(dout.flatten(2), saved, flat, height, width)
    du, *rest = _present(grads, dout)
    return [torch.unflatten(du, 2, (height, width)), *rest]


def _present(fields: tuple[Any, ...], like: Tensor) -> list[Tensor]:
    """Gradients of the operator's own inputs; an absent one's is an empty tensor."""
    du, ddelta, dA, dB, dC, dD, _, dbias, _ = fields
    grads = (du, ddelta, dA, dB, dC, dD, dbias)
    return [like.new_empty(0) if grad is None else grad for grad in grads]


forward_op = torch.library.custom_op(
    "clipmamba::cross_selective_scan",
    _forward,
    mutates_args=(),
    schema=f"({_INPUTS}, bool save_states, str kernel) -> (Tensor, Tensor)",
)
backward_op = torch.library.custom_op(
    "clipmamba::cross_selective_scan_backward",
    _backward,
    mutates_args=(),
    schema=f"(Tensor dout, Tensor saved, {_INPUTS}, str kernel) -> Tensor[]",
)


@forward_op.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor]:
    x, _, A, *_, save_states, kernel = inputs
    batch, _, height, width = x.shape
    chunks = _KERNELS[kernel].picture_chunks(height, width) if save_states else 0
    return (
        _like_picture(x),
        x.new_empty((batch, chunks, A.shape[1], A.shape[0]), dtype=torch.float32),
    )


@backward_op.register_fake
def _(dout: Tensor, saved: Tensor, *inputs: Any) -> list[Tensor]:
    x, *tensors, _, _, _ = inputs
    return [
        _like_picture(x),
        *(x.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors),
    ]


def _like_picture(x: Tensor) -> Tensor:
    """A result's memory: in the picture's own format."""
    return torch.unflatten(torch.empty_like(x.flatten(2)), 2, x.shape[2:])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, delta_softplus, least_delta, _, kernel = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], *tensors)
    ctx.options = delta_softplus, least_delta, kernel


@once_differentiable
def _differentiate(ctx: Any, dout: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    saved, *tensors = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    grads = backward_op(dout, saved, *tensors, *ctx.options)
    return (
        *(None if t is None else grad for t, grad in zip(tensors, grads, strict=True)),
        *(None, None, None, None),
    )


forward_op.register_autograd(_differentiate, setup_context=_setup_context)
