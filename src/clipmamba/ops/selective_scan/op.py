"""The scans as torch operators, so that autograd, torch.compile and export see a single node."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backends import cpu, triton
from .backends import torch as plain
from .interface import (
    TENSORS,
    Kernel,
    Results,
    ScanFunction,
    ScanInputs,
    compute_dtype,
    result_like,
)
from .watch import nobody_watches

KERNELS: dict[str, Kernel] = {"cpu": cpu, "triton": triton, "torch": plain}
"""Kernels by the names of their backends."""

_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool", float: "float"}
_INPUTS = ", ".join(f"{_TYPES[t]} {name}" for name, t in get_type_hints(ScanInputs).items())
_FORWARD = f"({_INPUTS}, bool save_states, str kernel) -> (Tensor, Tensor, Tensor)"
_BACKWARD = f"(Tensor dout, Tensor? dlast, Tensor saved, {_INPUTS}, str kernel) -> Tensor[]"

# Keeps the operators registered.
_LIBRARY = torch.library.Library("clipmamba", "FRAGMENT")  # type: ignore[no-untyped-call]


P = ParamSpec("P")
R = TypeVar("R")


def _untraced(run: Callable[P, R]) -> Callable[P, R]:
    """Exclude a function from torch.compile's tracing.

    Disabling the tracer imports it, which takes a second, so this waits until it is imported.
    """
    disabled: list[Callable[P, R]] = []

    @functools.wraps(run)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return run(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(run))  # type: ignore[no-untyped-call]
        return disabled[0](*args, **kwargs)

    return call


@_untraced
def run_forward(kernel: str, inputs: ScanInputs, save_states: bool) -> Results:
    """Run a kernel's forward pass, with lazy negation resolved."""
    return KERNELS[kernel].forward(inputs.resolved(), save_states)


@_untraced
def run_backward(
    kernel: str, dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs
) -> list[Tensor | None]:
    """Compute gradients of `inputs.tensors` in order, each of its input's dtype; None for None.

    If a graph was made without gradients and is differentiated anyway, nothing was saved, and the
    states are recomputed.
    """
    run, inputs = KERNELS[kernel], inputs.resolved()
    if not saved.shape[1]:
        saved = run.forward(inputs, True)[2]
    dlast = None if dlast is None else dlast.resolve_neg()
    grads = run.backward(dout.resolve_neg(), dlast, saved, inputs)
    typed: list[Tensor | None] = []
    for name, t in zip(TENSORS, inputs.tensors, strict=True):
        grad = None if t is None else grads[name]
        if t is not None and grad is not None and grad.dtype != t.dtype:
            grad = grad.to(t.dtype)
        typed.append(grad)
    return typed


def make_op(name: str) -> Callable[[str], ScanFunction]:
    """Register a scan and its backward pass as operators.

    Both take the fields of `ScanInputs`. They are bypassed if `watch` finds that nothing intercepts
    operators.

    Args:
        name: name of the operator in the namespace `clipmamba`.

    Returns:
        A function from the name of a kernel to its differentiable scan.
    """
    forward_op = register(name, _FORWARD, _forward, _fake_forward)
    backward_op = register(f"{name}_backward", _BACKWARD, _backward, _fake_backward)

    @once_differentiable
    def differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, *tensors = ctx.saved_tensors
        inputs = ScanInputs(*tensors, *ctx.options)
        dout, dlast = grads[:2]
        if dout is None:
            dout = torch.zeros_like(inputs.u)
        if nobody_watches((dout, dlast, saved, *tensors)):
            found = run_backward(ctx.kernel, dout, dlast, saved, inputs)
        else:
            found = backward_op(dout, dlast, saved, *inputs, ctx.kernel)
        return (
            *(None if t is None else grad for t, grad in zip(tensors, found, strict=True)),
            *(None, None, None, None),
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        *fields, _, kernel = inputs
        ctx.mark_non_differentiable(output[2])
        _keep(ctx, ScanInputs(*fields), output[2], kernel)

    torch.library.register_autograd(
        f"clipmamba::{name}", differentiate, setup_context=setup_context, lib=_LIBRARY
    )

    class Direct(torch.autograd.Function):
        """The scan, bypassing the operator."""

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
            *fields, save_states, kernel = arguments
            inputs = ScanInputs(*fields)
            out, last, saved = run_forward(kernel, inputs, save_states)
            _keep(ctx, inputs, saved, kernel)
            return out, last

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return differentiate(ctx, *grads)

    def through(kernel: str) -> ScanFunction:
        def scan(inputs: ScanInputs, needs_grad: bool) -> tuple[Tensor, Tensor]:
            if torch.compiler.is_compiling() or not nobody_watches(inputs.tensors):
                results: tuple[Tensor, ...] = forward_op(*inputs, needs_grad, kernel)
            elif needs_grad:
                results = Direct.apply(*inputs, True, kernel)  # type: ignore[no-untyped-call]
            else:
                results = run_forward(kernel, inputs, False)
            return results[0], results[1]

        return scan

    return through


def register(name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Register the operator `clipmamba::name`, without autograd."""
    qualified = f"clipmamba::{name}"
    tags = (torch.Tag.pt2_compliant_tag,)
    torch.library.define(qualified, schema, lib=_LIBRARY, tags=tags)
    torch.library.impl(qualified, "default", run, lib=_LIBRARY)
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    return getattr(torch.ops.clipmamba, name).default


def _keep(ctx: Any, inputs: ScanInputs, saved: Tensor, kernel: str) -> None:
    """Save what the backward pass needs."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(saved, *inputs.tensors)
    ctx.options, ctx.kernel = inputs[len(TENSORS) :], kernel


# Implementations of the operators; arguments as in their schemas.


def _forward(*arguments: Any) -> Results:
    *fields, save_states, kernel = arguments
    return run_forward(kernel, ScanInputs(*fields), save_states)


def _backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, *arguments: Any) -> list[Tensor]:
    *fields, kernel = arguments
    grads = run_backward(kernel, dout, dlast, saved, ScanInputs(*fields))
    # An operator can't return None, so an absent input's gradient is an empty tensor.
    return [dout.new_empty(0) if grad is None else grad for grad in grads]


def _fake_forward(*arguments: Any) -> Results:
    *fields, save_states, kernel = arguments
    inputs = ScanInputs(*fields)
    batch, (channels, states) = inputs.u.shape[0], inputs.A.shape
    chunks = KERNELS[kernel].chunk_count(inputs) if save_states else 0
    dtype = compute_dtype(inputs.u)
    return (
        result_like(inputs.u),
        inputs.u.new_empty((batch, channels, states), dtype=dtype),
        inputs.u.new_empty((batch, chunks, states, channels), dtype=dtype),
    )


def _fake_backward(
    dout: Tensor, dlast: Tensor | None, saved: Tensor, *arguments: Any
) -> list[Tensor]:
    inputs = ScanInputs(*arguments[:-1])
    rest = [dout.new_empty(0) if t is None else t.new_empty(t.shape) for t in inputs.tensors[1:]]
    return [result_like(inputs.u), *rest]


sequence_scan = make_op("selective_scan")
"""The scan of sequences, u (B, D, L)."""

picture_scan = make_op("cross_selective_scan")
"""The scan of pictures in four directions, which are the groups, u (B, D / 4, H, W)."""
