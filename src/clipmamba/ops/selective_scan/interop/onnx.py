"""The scan in ONNX, for any length, in standard operators. Needs onnxscript.

`scan_lines` has many short lines: one loop over the steps processes all lines in parallel.

`selective_scan` has one long sequence: a loop over L steps would spend its time on overhead. So L
steps are split into about √L chunks of about √L steps. The first loop processes all chunks in
parallel, step by step; the second carries states from chunk to chunk; the third restarts every
chunk from its initial state. This takes 3 √L iterations and is exact, with two exponentials per
step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import FLOAT, graph, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from clipmamba.ops.selective_scan import lines

_FUNCTIONS = Opset("clipmamba", 1)


@script(_FUNCTIONS, default_opset=op)  # type: ignore[untyped-decorator]
def chunked_scan(
    start: FLOAT, A: FLOAT, delta: FLOAT, drive: FLOAT, B: FLOAT, C: FLOAT
) -> tuple[FLOAT, FLOAT]:
    """Scan K chunks of T steps; a function in the ONNX file, not in Python.

    Args:
        start: State (B, G, N, P), P channels per group.
        A: (G, 1, N, P).
        delta: (T, B, G, K, 1, P).
        drive: delta * u, (T, B, G, K, 1, P).
        B: (T, B, G, K, N, 1).
        C: (T, B, G, K, 1, N).

    Returns:
        (T, B, G, K, 1, P) and the state after the last step.
    """

    @graph()
    def leave(h, delta_t, drive_t, B_t):  # type: ignore[no-untyped-def]
        h_t = op.Exp(delta_t * A) * h + drive_t * B_t
        return h_t

    @graph()
    def hand_on(h, decay_k, left_k):  # type: ignore[no-untyped-def]
        begin_k = op.Identity(h)
        h_k = decay_k * h + left_k
        return h_k, begin_k

    @graph()
    def step(h, delta_t, drive_t, B_t, C_t):  # type: ignore[no-untyped-def]
        h_t = op.Exp(delta_t * A) * h + drive_t * B_t
        y_t = op.MatMul(C_t, h_t)
        return h_t, y_t

    decay = op.Exp(op.ReduceSum(delta, op.Constant(value_ints=[0]), keepdims=0) * A)
    empty = op.Expand(op.Constant(value_float=0.0), op.Shape(decay))
    left = op.Scan(empty, delta, drive, B, body=leave, num_scan_inputs=3)
    last, begins = op.Scan(
        start,
        op.Transpose(decay, perm=[2, 0, 1, 3, 4]),
        op.Transpose(left, perm=[2, 0, 1, 3, 4]),
        body=hand_on,
        num_scan_inputs=2,
    )
    begin = op.Transpose(begins, perm=[1, 2, 0, 3, 4])
    _, y = op.Scan(begin, delta, drive, B, C, body=step, num_scan_inputs=4)
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
    """Translate the operator, from ONNX values of its arguments to its results; float32 only."""
    groups, states = int(B.shape[1]), int(A.shape[1])
    channels = int(A.shape[0]) // groups

    def numbers(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    one = numbers(1)
    batch, length = op.Shape(u, start=0, end=1), op.Shape(u, start=2, end=3)
    root = op.Sqrt(op.Cast(length, to=1))
    steps = op.Cast(op.Ceil(root), to=7)
    chunks = op.Div(op.Sub(op.Add(length, steps), one), steps)
    # Steps of size 0 change nothing, and pad the last chunk.
    missing = op.Sub(op.Mul(steps, chunks), length)

    def steps_first(x: Any, rows: int) -> Any:  # (B, G * rows, L) to (T, B, G, K, rows)
        x = op.Pad(x, op.Concat(numbers(0, 0, 0, 0, 0), missing, axis=0))
        shape = op.Concat(batch, numbers(groups, rows), chunks, steps, axis=0)
        return op.Transpose(op.Reshape(x, shape), perm=[4, 0, 1, 3, 2])

    def grouped(x: Any) -> Any:  # (B, G, N, L) to (B, G * N, L)
        return op.Reshape(x, op.Concat(batch, numbers(groups * states), length, axis=0))

    def states_first(x: Any) -> Any:  # (…, P, N) to (…, N, P)
        return op.Transpose(x, perm=[0, 1, 3, 2])

    shape = op.Concat(batch, numbers(groups, channels, states), axis=0)
    if initial_state is None:
        start = op.Expand(op.Constant(value_float=0.0), shape)
    else:
        start = op.Reshape(initial_state, shape)
    if delta_bias is not None:
        delta = op.Add(delta, op.Unsqueeze(delta_bias, one))
    if delta_softplus:
        delta = op.Softplus(delta)
    if least_delta:
        delta = op.Add(delta, op.Constant(value_float=least_delta))
    y, last = chunked_scan(
        states_first(start),
        states_first(op.Reshape(A, numbers(groups, 1, channels, states))),
        op.Unsqueeze(steps_first(delta, channels), numbers(4)),
        op.Unsqueeze(steps_first(op.Mul(delta, u), channels), numbers(4)),
        op.Unsqueeze(steps_first(grouped(B), states), numbers(5)),
        op.Unsqueeze(steps_first(grouped(C), states), numbers(4)),
    )
    y = op.Transpose(op.Squeeze(y, numbers(4)), perm=[1, 2, 4, 3, 0])  # (B, G, P, K, T)
    filled = op.Concat(batch, numbers(groups * channels), op.Mul(steps, chunks), axis=0)
    y = op.Slice(op.Reshape(y, filled), numbers(0), length, numbers(2))
    if D is not None:
        y = op.Add(y, op.Mul(op.Unsqueeze(D, one), u))
    if z is not None:
        y = op.Mul(y, op.Mul(z, op.Sigmoid(z)))
    last = op.Reshape(
        states_first(last), op.Concat(batch, numbers(groups * channels, states), axis=0)
    )
    return y, last, op.Identity(last)  # nothing reads the saved states of an exported graph


@script(_FUNCTIONS, default_opset=op)  # type: ignore[untyped-decorator]
def line_scan(
    A: FLOAT,
    delta: FLOAT,
    drive: FLOAT,
    B: FLOAT,
    C: FLOAT,
    delta_back: FLOAT,
    drive_back: FLOAT,
    B_back: FLOAT,
    C_back: FLOAT,
) -> FLOAT:
    """Scan M lines of T steps forward and backward; a function in the ONNX file, not in Python.

    One state has both ways, which halves the iterations.

    Args:
        A: (2, 1, N, P).
        delta: (T, 1, M, 1, P).
        drive: delta * u, (T, 1, M, 1, P).
        B: (T, 1, M, N, 1).
        C: (T, 1, M, 1, N).
        delta_back: `delta` of the backward scan, in the order of the forward one.
        drive_back: The same for `drive`.
        B_back: The same for `B`.
        C_back: The same for `C`.

    Returns:
        Sum of both, (T, 1, M, 1, P).
    """

    @graph()
    def step(  # type: ignore[no-untyped-def]
        h, delta_t, drive_t, B_t, C_t, delta_s, drive_s, B_s, C_s
    ):
        size = op.Concat(delta_t, delta_s, axis=0)
        added = op.Concat(drive_t, drive_s, axis=0) * op.Concat(B_t, B_s, axis=0)
        h_t = op.Exp(size * A) * h + added
        y_t, y_s = op.Split(op.MatMul(op.Concat(C_t, C_s, axis=0), h_t), num_outputs=2, axis=0)
        return h_t, y_t, y_s

    lines = op.Shape(delta, start=2, end=3)
    states = op.Shape(A, start=2, end=4)
    two = op.Constant(value_ints=[2])
    start = op.Expand(op.Constant(value_float=0.0), op.Concat(two, lines, states, axis=0))
    _, y, y_back = op.Scan(
        start,
        delta,
        drive,
        B,
        C,
        delta_back,
        drive_back,
        B_back,
        C_back,
        body=step,
        num_scan_inputs=8,
        scan_input_directions=[0, 0, 0, 0, 1, 1, 1, 1],
        scan_output_directions=[0, 1],
    )
    return y + y_back


def _translate_lines(
    u: Any,
    delta: Sequence[Any],
    A: Sequence[Any],
    B: Sequence[Any],
    C: Sequence[Any],
    delta_bias: Sequence[Any],
    least_delta: float,
) -> Any:
    """Translate `scan_lines`, from ONNX values of its arguments to its result; float32 only."""

    def axes(*places: int) -> Any:
        return op.Constant(value_ints=list(places))

    inputs = []
    for way in range(2):
        size = op.Add(delta[way], delta_bias[way])
        # Runtimes vectorize Exp but not Softplus.
        small = op.Min(size, op.Constant(value_float=60.0))
        grown = op.Log(op.Add(op.Exp(small), op.Constant(value_float=1.0)))
        size = op.Max(grown, size)
        if least_delta:
            size = op.Add(size, op.Constant(value_float=least_delta))
        inputs += [
            op.Unsqueeze(size, axes(1, 3)),
            op.Unsqueeze(op.Mul(size, u), axes(1, 3)),
            op.Unsqueeze(B[way], axes(1, 4)),
            op.Unsqueeze(C[way], axes(1, 3)),
        ]
    both = [op.Unsqueeze(op.Transpose(a, perm=[1, 0]), axes(0, 1)) for a in A]
    return op.Squeeze(line_scan(op.Concat(*both, axis=0), *inputs), axes(1, 3))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.clipmamba.selective_scan.default: _translate,
    lines.OPERATOR: _translate_lines,
}
"""For `custom_translation_table` of `torch.onnx.export`; trace with `scan_backend("torch")`."""
