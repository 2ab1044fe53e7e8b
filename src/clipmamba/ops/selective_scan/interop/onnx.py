"""The scan in ONNX: its operator becomes a standard `Scan`, of any length. Needs onnxscript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import FLOAT, graph, script
from onnxscript import opset18 as op
from onnxscript.values import Opset


@script(Opset("clipmamba", 1), default_opset=op)  # type: ignore[untyped-decorator]
def scan(
    start: FLOAT, A: FLOAT, delta: FLOAT, drive: FLOAT, B: FLOAT, C: FLOAT
) -> tuple[FLOAT, FLOAT]:
    """One step after the other; a function of the ONNX file, not of Python.

    Args:
        start: State (B, G, P, N), P channels a group.
        A: (G, P, N).
        delta: (L, B, G, P, 1).
        drive: delta * u, (L, B, G, P, 1).
        B: (L, B, G, 1, N).
        C: (L, B, G, N, 1).

    Returns:
        (L, B, G, P, 1) and the state after the last step.
    """

    @graph()
    def step(h, delta_t, drive_t, B_t, C_t):  # type: ignore[no-untyped-def]
        h_t = op.Exp(delta_t * A) * h + drive_t * B_t
        y_t = op.MatMul(h_t, C_t)
        return h_t, y_t

    last, y = op.Scan(start, delta, drive, B, C, body=step, num_scan_inputs=4)
    return y, last


def _translate(
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    z: Any,
    delta_bias: Any,
    initial_state: Any,
    delta_softplus: bool,
    least_delta: float,
    save_states: bool,
    kernel: str,
) -> tuple[Any, Any, Any]:
    """The operator's arguments, as values of an ONNX graph, to its three results; float32 only."""
    groups, states = int(B.shape[1]), int(A.shape[1])
    channels = int(A.shape[0]) // groups

    def numbers(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def batch_by(*sizes: int) -> Any:
        return op.Concat(op.Shape(u, start=0, end=1), numbers(*sizes), axis=0)

    def steps_first(x: Any) -> Any:  # (B, D, L) to (L, B, G, P, 1)
        return op.Transpose(op.Reshape(x, batch_by(groups, channels, 1, -1)), perm=[4, 0, 1, 2, 3])

    shape = batch_by(groups, channels, states)
    if initial_state is None:
        start = op.Expand(op.Constant(value_float=0.0), shape)
    else:
        start = op.Reshape(initial_state, shape)
    if delta_bias is not None:
        delta = op.Add(delta, op.Unsqueeze(delta_bias, numbers(1)))
    if delta_softplus:
        delta = op.Softplus(delta)
    if least_delta:
        delta = op.Add(delta, op.Constant(value_float=least_delta))
    y, last = scan(
        start,
        op.Reshape(A, numbers(groups, channels, states)),
        steps_first(delta),
        steps_first(op.Mul(delta, u)),
        op.Unsqueeze(op.Transpose(B, perm=[3, 0, 1, 2]), numbers(3)),
        op.Unsqueeze(op.Transpose(C, perm=[3, 0, 1, 2]), numbers(4)),
    )
    y = op.Reshape(op.Transpose(y, perm=[1, 2, 3, 4, 0]), op.Shape(u))
    if D is not None:
        y = op.Add(y, op.Mul(op.Unsqueeze(D, numbers(1)), u))
    if z is not None:
        y = op.Mul(y, op.Mul(z, op.Sigmoid(z)))
    last = op.Reshape(last, batch_by(groups * channels, states))
    return y, last, op.Identity(last)  # nothing reads the saved states of an exported graph


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.clipmamba.selective_scan.default: _translate
}
"""For `custom_translation_table=` of `torch.onnx.export`; trace with `scan_backend("torch")`."""
