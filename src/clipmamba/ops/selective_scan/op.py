"""The scan as one operator of torch's own: autograd, torch.compile and export see a single node."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

from . import cpu, torch_scan, triton
from .interface import ScanFunction, ScanInputs, compute_dtype

_KERNELS: dict[str, ModuleType] = {"cpu": cpu, "triton": triton, "torch": torch_scan}

# The fields of ScanInputs.
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? initial_state, bool delta_softplus, float least_delta"
)


_SCHEMAS = {
    "selective_scan": f"({_INPUTS}, bool save_states, str kernel) -> (Tensor, Tensor, Tensor)",
    "selective_scan_backward": (
        f"(Tensor dout, Tensor? dlast, Tensor saved, {_INPUTS}, str kernel) -> Tensor[]"
    ),
}


@_disable_dynamo  # torch.compiler.disable would import the compiler now
def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    *fields, save_states, kernel = inputs
    result: tuple[Tensor, Tensor, Tensor] = _KERNELS[kernel].forward(
        ScanInputs(*fields), save_states
    )
    return result


@_disable_dynamo  # torch.compiler.disable would import the compiler now
def _backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, *inputs: Any) -> list[Tensor]:
    *fields, kernel = inputs
    grads = _KERNELS[kernel].backward(dout, dlast, saved, ScanInputs(*fields))
    # An operator can't return None: an absent input's gradient is an empty tensor here.
    return [dout.new_empty(0) if grad is None else grad for grad in grads]


def _fake_forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
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


def _fake_backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, *inputs: Any) -> list[Tensor]:
    tensors = ScanInputs(*inputs[:-1]).tensors
    return [dout.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors]


class _Scan(torch.autograd.Function):
    """The operator below autograd, with its derivative."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        *tensors, delta_softplus, least_delta, _, kernel = inputs
        out, last, saved = _below_autograd(*inputs)
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(saved, *tensors)
        ctx.options = delta_softplus, least_delta, kernel
        return out, last, saved

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, dout: Tensor | None, dlast: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        saved, *tensors = ctx.saved_tensors
        if dout is None:
            dout = torch.zeros_like(tensors[0])
        run = backward_op if _watched(dout) else _backward
        grads = run(dout, dlast, saved, *tensors, *ctx.options)
        return (
            *(None if t is None else grad for t, grad in zip(tensors, grads, strict=True)),
            *(None, None, None, None),
        )


def _watched(tensor: Tensor) -> bool:
    """Whether someone looks at operators: a subclass, a tracer or other mode, vmap, a profiler.

    Only then must a scan be one. Else its kernels are called directly, which spares 10 us.
    """
    return (
        type(tensor) not in (Tensor, Parameter)
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._autograd._profiler_enabled()
    )


def _below_autograd(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    if not _watched(inputs[0]):
        result: tuple[Tensor, Tensor, Tensor] = _forward(*inputs)
        return result
    with torch._C._AutoDispatchBelowAutograd():
        result = forward_op(*inputs)
    return result


def _autograd(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    wanted = torch.is_grad_enabled() and any(
        isinstance(t, Tensor) and t.requires_grad for t in inputs
    )
    result: tuple[Tensor, Tensor, Tensor] = (_Scan.apply if wanted else _below_autograd)(*inputs)
    return result


# torch.library.custom_op would do the same; its autograd takes 60 us more at every call.
_library: Any = torch.library.Library("clipmamba", "FRAGMENT")  # type: ignore[no-untyped-call]
for _name, _kernel, _fake in (
    ("selective_scan", _forward, _fake_forward),
    ("selective_scan_backward", _backward, _fake_backward),
):
    _library.define(_name + _SCHEMAS[_name], tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"clipmamba::{_name}", _fake, lib=_library)
_library.impl("selective_scan", _autograd, "Autograd")

forward_op = torch.ops.clipmamba.selective_scan.default
backward_op = torch.ops.clipmamba.selective_scan_backward.default


def scan_with(kernel: str) -> ScanFunction:
    """The differentiable scan through one of the kernels: "cpu", "triton" or "torch"."""

    def scan(inputs: ScanInputs, needs_grad: bool) -> tuple[Tensor, Tensor]:
        direct = not (needs_grad or torch.compiler.is_compiling())  # spares 10 us
        out, last, _ = (_below_autograd if direct else forward_op)(*inputs, needs_grad, kernel)
        return out, last

    return scan
