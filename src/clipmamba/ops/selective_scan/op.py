"""The scan as one operator of torch's own: autograd, torch.compile and export see a single node."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import cpu, torch_scan, triton
from .interface import ScanFunction, ScanInputs, compute_dtype

_KERNELS: dict[str, ModuleType] = {"cpu": cpu, "triton": triton, "torch": torch_scan}

# The fields of ScanInputs.
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? initial_state, bool delta_softplus"
)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    *fields, save_states, kernel = inputs
    result: tuple[Tensor, Tensor, Tensor] = _KERNELS[kernel].forward(
        ScanInputs(*fields), save_states
    )
    return result


def _backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, *inputs: Any) -> list[Tensor]:
    *fields, kernel = inputs
    grads = _KERNELS[kernel].backward(dout, dlast, saved, ScanInputs(*fields))
    # An operator can't return None: an absent input's gradient is an empty tensor here.
    return [dout.new_empty(0) if grad is None else grad for grad in grads]


forward_op = torch.library.custom_op(
    "clipmamba::selective_scan",
    _forward,
    mutates_args=(),
    schema=f"({_INPUTS}, bool save_states, str kernel) -> (Tensor, Tensor, Tensor)",
)
backward_op = torch.library.custom_op(
    "clipmamba::selective_scan_backward",
    _backward,
    mutates_args=(),
    schema=(f"(Tensor dout, Tensor? dlast, Tensor saved, {_INPUTS}, str kernel) -> Tensor[]"),
)


@forward_op.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    *fields, save_states, kernel = inputs
    u, A = ScanInputs(*fields).u, ScanInputs(*fields).A
    batch, channels, length = u.shape
    states, dtype = A.shape[1], compute_dtype(u)
    chunks = _KERNELS[kernel].chunk_count(length) if save_states else 0
    return (
        u.new_empty(u.shape),
        u.new_empty((batch, channels, states), dtype=dtype),
        u.new_empty((batch, chunks, states, channels), dtype=dtype),
    )


@backward_op.register_fake
def _(dout: Tensor, dlast: Tensor | None, saved: Tensor, *inputs: Any) -> list[Tensor]:
    tensors = ScanInputs(*inputs[:-1]).tensors
    return [dout.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, delta_softplus, _, kernel = inputs
    saved = output[2]
    ctx.mark_non_differentiable(saved)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(saved, *tensors)
    ctx.delta_softplus, ctx.kernel = delta_softplus, kernel


def _differentiate(
    ctx: Any, dout: Tensor | None, dlast: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    saved, *tensors = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    grads = backward_op(dout, dlast, saved, *tensors, ctx.delta_softplus, ctx.kernel)
    return (
        *(None if t is None else grad for t, grad in zip(tensors, grads, strict=True)),
        *(None, None, None),
    )


forward_op.register_autograd(_differentiate, setup_context=_setup_context)


def scan_with(kernel: str) -> ScanFunction:
    """The differentiable scan through one of the kernels: "cpu", "triton" or "torch"."""

    def scan(inputs: ScanInputs, needs_grad: bool) -> tuple[Tensor, Tensor]:
        out, last, _ = forward_op(*inputs, needs_grad, kernel)
        return out, last

    return scan
