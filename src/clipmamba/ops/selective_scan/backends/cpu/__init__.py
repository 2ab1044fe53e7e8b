"""The fused CPU kernels: a small C++ library, built with the package and called through ctypes.

The library has no dependencies, not even OpenMP: it receives the address of `GOMP_parallel` in the
runtime that torch has already loaded, so both share one thread pool. The library is chosen by the
instruction set that torch detects.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ...interface import (
    Gradients,
    Results,
    ScanCall,
    ScanInputs,
    Verdict,
    ceil_div,
    decline,
    from_line,
    to_line,
)
from .arguments import Sizes, pack
from .library import Library, isas, load
from .memory import empty, empty_like

_ELEMENTS = frozenset({torch.float32, torch.bfloat16})
_CHUNK = 256  # steps between two saved states
_STRIP = 16  # columns of a picture that are read together, as in csrc/walk.h
# Below this many (b, d, l, n) cells, waking a second thread costs more than it saves.
_WORTH_THREADS = 1 << 16

# Loaded on import (10 ms), so that torch.compile sees two constants.
LIBRARY, REASON = load(isas())


def available() -> Verdict:
    """Tell whether a library for this processor was built and can be loaded."""
    return LIBRARY is not None, REASON


def supports(call: ScanCall) -> Verdict:
    """Tell whether it can run a call: float32 and bfloat16 tensors on the CPU."""
    reason = decline(call, "cpu", _ELEMENTS)
    return reason is None, reason or "float32 state"


def chunk_count(inputs: ScanInputs) -> int:
    """Count the chunk-start states that `forward` saves; for a picture, the largest direction's.

    Rows are one sequence; columns are processed in strips, each of which starts a chunk.
    """
    whole = ceil_div(inputs.delta.shape[2], _CHUNK)
    if inputs.picture is None:
        return whole
    height, width = inputs.picture
    return max(whole, ceil_div(width, _STRIP) * ceil_div(_STRIP * height, _CHUNK))


@lru_cache(maxsize=256)
def _slices(pairs: int, blocks: int, threads: int) -> int:
    """Choose the number of tasks per (batch, group) pair.

    This is the smallest number with the shortest run time, since every further slice needs its own
    dB and dC.
    """
    if threads == 1:
        return 1

    def finish(slices: int) -> int:
        return ceil_div(pairs * slices, threads) * ceil_div(blocks, slices)

    return min(range(1, min(blocks, threads) + 1), key=finish)


def _plan(inputs: ScanInputs, library: Library) -> tuple[Sizes, int]:
    """Compute the sizes of a call and the number of threads."""
    batch, channels, length = inputs.delta.shape
    groups, states = inputs.B.shape[1], inputs.A.shape[1]
    rows, pairs = channels // groups, batch * (1 if inputs.picture else groups)
    worth = batch * channels * length * states >= _WORTH_THREADS
    threads = library.threads() if worth else 1
    slices = _slices(pairs, ceil_div(rows, library.lanes), threads)
    sizes = Sizes(
        *(batch, groups, rows, length, states, _CHUNK, chunk_count(inputs), slices),
        inputs.delta_softplus,
        *(inputs.picture or (0, 0)),
        inputs.least_delta,
    )
    return sizes, min(threads, pairs * slices)


def _parameters(inputs: ScanInputs) -> dict[str, Tensor | None]:
    """Convert A, D, bias and initial state to contiguous float32, by the names of `Args`."""
    return {
        "A": _floats(inputs.A),
        "D": _floats(inputs.D),
        "bias": _floats(inputs.delta_bias),
        "first": _floats(inputs.initial_state),
    }


def _floats(t: Tensor | None) -> Tensor | None:
    if t is None or (t.dtype == torch.float32 and t.is_contiguous()):
        return t
    return t.to(torch.float32).contiguous()


def _library() -> Library:
    if LIBRARY is None:  # reached only by calling an operator directly
        raise RuntimeError(f"the fused CPU scan can't run: {REASON}")
    return LIBRARY


def _run(
    library: Library, sizes: Sizes, tensors: dict[str, Tensor | None], backward: bool, threads: int
) -> None:
    error = library.scan(pack(sizes, tensors), backward, library.parallel, threads)
    if error:
        raise MemoryError("the selective scan could not allocate its scratch memory")


def forward(inputs: ScanInputs, save_states: bool) -> Results:
    """Implement `Kernel.forward` for float32 and bfloat16 CPU tensors of any strides."""
    library = _library()
    sizes, threads = _plan(inputs, library)
    batch, (channels, states) = sizes.batch, inputs.A.shape
    u = to_line(inputs.u)
    out = empty_like(u, torch.float32) if sizes.height else empty(u.shape, u.dtype)
    last = empty((batch, channels, states))
    saved = empty((batch, sizes.chunks if save_states else 0, states, channels))
    tensors = _parameters(inputs) | {
        "u": u,
        "delta": inputs.delta,
        "z": inputs.z,
        "B": inputs.B,
        "C": inputs.C,
        "out": out,
        "starts": saved if save_states else None,
        "last": last,
    }
    _run(library, sizes, tensors, False, threads)
    if sizes.height:
        out = from_line(out.to(u.dtype), inputs.u)
    return out, last, saved


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """Implement `Kernel.backward` for float32 and bfloat16 CPU tensors of any strides."""
    library = _library()
    sizes, threads = _plan(inputs, library)
    batch, slices = sizes.batch, sizes.slices
    u, delta, z = to_line(inputs.u), inputs.delta, inputs.z
    tensors = _parameters(inputs)
    du = empty_like(u, torch.float32) if sizes.height else empty(u.shape, u.dtype)
    ddelta = empty(delta.shape, delta.dtype)
    dz = None if z is None else empty(z.shape, z.dtype)
    dfirst = None if tensors["first"] is None else empty(tensors["first"].shape)
    # Parameters get one row per batch element, B and C one tensor per slice; sums have a fixed
    # order. Tensor operations are kept few: each costs as much as a hundred steps.
    rows, parts = (batch,) * (batch > 1), (slices,) * (slices > 1)
    dA = empty((*rows, *inputs.A.shape))
    dD, dbias = empty(dA.shape[:-1]), empty(dA.shape[:-1])
    dB, dC = empty((*parts, *inputs.B.shape)), empty((*parts, *inputs.B.shape))
    tensors |= {"u": u, "delta": delta, "z": z, "B": inputs.B, "C": inputs.C}
    tensors |= {"dout": to_line(dout), "dlast": _floats(dlast), "starts": saved.contiguous()}
    tensors |= {"du": du, "ddelta": ddelta, "dz": dz, "dfirst": dfirst}
    tensors |= {"dA": dA, "dD": dD, "dbias": dbias, "dB": dB, "dC": dC}
    _run(library, sizes, tensors, True, threads)
    if rows:
        dA, dD, dbias = dA.sum(0), dD.sum(0), dbias.sum(0)
    if slices == 2:  # `sum` has an overhead of 20 us
        dB, dC = torch.add(*dB), torch.add(*dC)
    elif parts:
        dB, dC = dB.sum(0), dC.sum(0)
    grads: Gradients = {"u": from_line(du, inputs.u), "delta": ddelta, "A": dA, "B": dB, "C": dC}
    return grads | {"D": dD, "z": dz, "delta_bias": dbias, "initial_state": dfirst}
