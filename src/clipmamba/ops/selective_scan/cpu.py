"""The fused CPU kernels: a small C++ library, built with the package and called by ctypes.

The library has no dependency, not even OpenMP: it is handed the address of `GOMP_parallel` of the
runtime that torch has already loaded, so one pool of threads serves both. Which of the shipped
libraries is loaded follows the instruction set that torch itself found.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from ctypes import c_char_p, c_int, c_int64, c_uint, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .interface import CHUNK, ScanCall, ScanInputs, Verdict, chunk_count, picture_chunks
from .memory import empty, empty_like
from .torch_scan import Gradients

_FOLDER = Path(__file__).parent / "lib"
_ELEMENTS = frozenset({torch.float32, torch.bfloat16})
# Below this many (b, d, l, n) cells waking a second thread costs more than it saves.
_WORTH_THREADS = 1 << 16

_forked = False


def _mark_forked() -> None:
    global _forked
    _forked = True


# GNU OpenMP's threads do not survive a fork, and a parallel region in the child waits for them for
# ever: a forked child (a DataLoader worker, say) runs on its own thread only.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


# `Args` of csrc/selective_scan.cpp in its order: all of it is words of 8 bytes. After the sizes
# comes a double, `least`.
_SIZES = (
    *("batch", "groups", "rows", "steps", "states"),
    *("chunk", "chunks", "slices", "softplus", "height", "width"),
)
_VIEW = ("data", "is_bf16", "batch", "group", "row", "step")
_VIEWS = ("u", "delta", "z", "B", "C", "out", "dout", "du", "ddelta", "dz")
_POINTERS = (
    *("A", "D", "bias", "starts", "first", "last", "dlast", "dfirst"),
    *("dA", "dD", "dbias", "dB", "dC"),
)
_CHUNKS, _SLICES = _SIZES.index("chunks"), _SIZES.index("slices")
_ARGS = struct.Struct(f"{len(_SIZES)}qd{len(_VIEWS) * len(_VIEW) + len(_POINTERS)}q")


@dataclass(frozen=True)
class _Library:
    isa: str
    lanes: int
    scan: Any
    parallel: Any  # GOMP_parallel or None


def _isas() -> list[str]:
    """Builds this machine can run, best first."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        best = torch.backends.cpu.get_cpu_capability()
        return {"AVX512": ["x86-64-v4", "x86-64-v3"], "AVX2": ["x86-64-v3"]}.get(best, [])
    return ["aarch64"] if machine in ("aarch64", "arm64") else []


def _find_parallel() -> Any:
    """`GOMP_parallel` of the OpenMP runtime that torch uses, or None."""
    torch_folder = Path(torch.__file__).parent
    names: list[str | None] = [None] if sys.platform != "win32" else []
    for folder in (torch_folder / "lib", torch_folder.parent / "torch.libs"):
        for pattern in ("libgomp*", "libomp*", "libiomp5*"):
            names += sorted(str(path) for path in folder.glob(pattern))
    for name in names:
        try:
            return ctypes.CDLL(name).GOMP_parallel
        except (OSError, AttributeError):
            continue
    return None


def _load() -> tuple[_Library | None, str]:
    isas = _isas()
    if not isas:
        return None, f"no build for this processor ({platform.machine()} without AVX2)"
    reason = (
        "the package was built without a C++ compiler; install a platform wheel, or install "
        "from source where c++, g++ or clang++ is found"
    )
    for isa in isas:
        path = _FOLDER / f"selective_scan-{isa}.so"
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            reason = f"{path.name} does not load: {error}"
            continue
        library.clipmamba_scan_abi.restype = c_int64
        if library.clipmamba_scan_abi() != _ARGS.size:
            reason = f"{path.name} is from another version of the package; install again"
            continue
        scan = library.clipmamba_scan
        scan.argtypes = (c_char_p, c_int, c_void_p, c_uint)
        scan.restype = c_int
        library.clipmamba_scan_lanes.restype = c_int64
        parallel = _find_parallel()
        threads = "torch's OpenMP" if parallel else "no OpenMP runtime found: one thread"
        return (
            _Library(isa, library.clipmamba_scan_lanes(), scan, parallel),
            f"fused kernels for {isa}, {threads}",
        )
    return None, reason


# Loaded with the module (10 ms), so that torch.compile meets two constants and no loading.
_LIBRARY, _REASON = _load()


def available() -> Verdict:
    """Whether a library for this processor was built and loads."""
    return _LIBRARY is not None, _REASON


def supports(call: ScanCall) -> Verdict:
    """float32 and bfloat16 tensors on the CPU."""
    if call.device.type != "cpu":
        return False, f"the tensors are on {call.device}, not on the CPU"
    other = call.dtypes - _ELEMENTS
    if other:
        return False, f"takes float32 and bfloat16, not {', '.join(sorted(map(str, other)))}"
    return True, "float32 state"


def _view(t: Tensor | None, groups: int = 0) -> tuple[int, ...]:
    """A (B, D, L) tensor with its channels in groups, or a (B, G, N, L) tensor if groups is 0."""
    if t is None:
        return _ABSENT
    if groups:
        batch, row, step = t.stride()
        strides = [batch, row * (t.shape[1] // groups), row, step]
    else:
        strides = list(t.stride())
    return (t.data_ptr(), t.dtype == torch.bfloat16, *strides)


_ABSENT = (0,) * len(_VIEW)


def _pointer(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _floats(t: Tensor | None) -> Tensor | None:
    if t is None or (t.dtype == torch.float32 and t.is_contiguous()):
        return t
    return t.to(torch.float32).contiguous()


@lru_cache(maxsize=256)
def _slices(pairs: int, blocks: int, threads: int) -> int:
    """Into how many tasks to cut each (batch, group) pair's channel blocks.

    The fewest that give the shortest finish: every slice beyond the first costs its own dB and dC.
    """
    if threads == 1:
        return 1

    def finish(slices: int) -> int:
        return -(-pairs * slices // threads) * -(-blocks // slices)

    return min(range(1, min(blocks, threads) + 1), key=finish)


def _library() -> _Library:
    if _LIBRARY is None:  # only reached by calling the op directly
        raise RuntimeError(f"the fused CPU scan can't run: {_REASON}")
    return _LIBRARY


class _Plan(NamedTuple):
    """A call's inputs and sizes as the library takes them.

    Attributes:
        sizes: In the order of _SIZES.
        least: The least step size.
        views: Of u, delta, z, B and C.
        parameters: A, D, delta_bias and initial_state as contiguous float32, or None.
        shared: Groups that u and its like have: 1 for a picture.
        threads: How many to use.
    """

    sizes: tuple[int, ...]
    least: float
    views: tuple[tuple[int, ...], ...]
    parameters: tuple[Tensor | None, ...]
    shared: int
    threads: int


def _plan(inputs: ScanInputs, library: _Library, picture: tuple[int, int] | None) -> _Plan:
    """What to hand to the library.

    Args:
        inputs: Of the scan. Of a picture, u is (B, D, H * W).
        library: The one that will run.
        picture: Its height and width, if u is one.
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, least = inputs
    batch, channels, length = delta.shape
    groups, states = B.shape[1], A.shape[1]
    shared = 1 if picture else groups
    rows, pairs = channels // groups, batch * shared
    worth = batch * channels * length * states >= _WORTH_THREADS
    threads = torch.get_num_threads() if worth and library.parallel and not _forked else 1
    slices = _slices(pairs, -(-rows // library.lanes), threads)
    chunks = picture_chunks(*picture) if picture else chunk_count(length)
    return _Plan(
        sizes=(
            *(batch, groups, rows, length, states, CHUNK, chunks, slices, delta_softplus),
            *(picture or (0, 0)),
        ),
        least=least,
        views=(
            *(_view(u, shared), _view(delta, groups), _view(z, groups)),
            *(_view(B), _view(C)),
        ),
        parameters=(_floats(A), _floats(D), _floats(delta_bias), _floats(initial_state)),
        shared=shared,
        threads=min(threads, pairs * slices),
    )


def _run(
    library: _Library,
    plan: _Plan,
    views: tuple[tuple[int, ...], ...],
    tensors: tuple[Tensor | None, ...],
    backward: bool,
) -> None:
    """Call the library; `views` and `tensors` follow the order of _VIEWS and _POINTERS."""
    words = (
        *plan.sizes,
        plan.least,
        *chain.from_iterable(plan.views),
        *chain.from_iterable(views),
        *map(_pointer, tensors),
    )
    error = library.scan(_ARGS.pack(*words), backward, library.parallel, plan.threads)
    if error:
        raise MemoryError("the selective scan could not allocate its scratch memory")


def forward(inputs: ScanInputs, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `torch_scan.forward`, for float32 and bfloat16 tensors of any strides on the CPU."""
    out = empty(inputs.u.shape, inputs.u.dtype)
    last, saved = _forward(inputs, out, save_states)
    return out, last, saved


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """As `torch_scan.backward`, for float32 and bfloat16 tensors of any strides on the CPU."""
    du = empty(inputs.u.shape, inputs.u.dtype)
    return _backward(dout, dlast, saved, inputs, du)


def cross_forward(
    inputs: ScanInputs, height: int, width: int, save_states: bool
) -> tuple[Tensor, Tensor]:
    """The scan of a picture in four directions, which are its groups.

    Args:
        inputs: u (B, D, H * W) is the picture; the rest as for 4 * D channels in 4 groups, each in
            its own direction's order; no z.
        height: H.
        width: W.
        save_states: whether there will be a backward pass.

    Returns:
        The directions' sum (B, D, H * W) in float32, and the saved states.
    """
    out = empty_like(inputs.u, torch.float32)
    _, saved = _forward(inputs, out, save_states, (height, width))
    return out, saved


def cross_backward(
    dout: Tensor, saved: Tensor, inputs: ScanInputs, height: int, width: int
) -> Gradients:
    """Gradients of the inputs of `cross_forward`; that of u in float32."""
    du = empty_like(inputs.u, torch.float32)
    return _backward(dout, None, saved, inputs, du, (height, width))


def _forward(
    inputs: ScanInputs, out: Tensor, save_states: bool, picture: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    library = _library()
    plan = _plan(inputs, library, picture)
    batch, channels, states = len(inputs.u), *inputs.A.shape
    chunks = plan.sizes[_CHUNKS] if save_states else 0
    last = torch.empty(batch, channels, states)
    saved = empty((batch, chunks, states, channels))
    A, D, bias, first = plan.parameters
    _run(
        library,
        plan,
        (_view(out, plan.shared), *(_ABSENT,) * 4),
        (A, D, bias, saved if save_states else None, first, last, *(None,) * 7),
        backward=False,
    )
    return last, saved


def _backward(
    dout: Tensor,
    dlast: Tensor | None,
    saved: Tensor,
    inputs: ScanInputs,
    du: Tensor,
    picture: tuple[int, int] | None = None,
) -> Gradients:
    library = _library()
    plan = _plan(inputs, library, picture)
    A, D, bias, first = plan.parameters
    saved, dlast = saved.contiguous(), _floats(dlast)
    delta, z = inputs.delta, inputs.z
    batch, groups, slices = len(delta), inputs.B.shape[1], plan.sizes[_SLICES]
    ddelta = empty(delta.shape, delta.dtype)
    dz = None if z is None else empty(z.shape, z.dtype)
    # Parameters get one row per batch element, B and C one tensor per slice; each sum has a fixed
    # order. Few tensor operations: each is as dear here as a hundred steps.
    rows, parts = (batch,) * (batch > 1), (slices,) * (slices > 1)
    dA = torch.empty(*rows, *inputs.A.shape)
    dfirst = None if first is None else torch.empty_like(first)
    dD, dbias = torch.empty(dA.shape[:-1]), torch.empty(dA.shape[:-1])
    dB, dC = empty((*parts, *inputs.B.shape)), empty((*parts, *inputs.B.shape))
    _run(
        library,
        plan,
        (
            *(_ABSENT, _view(dout, plan.shared), _view(du, plan.shared)),
            *(_view(ddelta, groups), _view(dz, groups)),
        ),
        (A, D, bias, saved, first, None, dlast, dfirst, dA, dD, dbias, dB, dC),
        backward=True,
    )
    if rows:
        dA, dD, dbias = dA.sum(0), dD.sum(0), dbias.sum(0)
    if slices == 2:  # `sum` takes 20 us to begin
        dB, dC = torch.add(*dB), torch.add(*dC)
    elif parts:
        dB, dC = dB.sum(0), dC.sum(0)
    grads = (du, ddelta, dA, dB, dC, dD, dz, dbias, dfirst)
    return tuple(
        None if t is None or grad is None else grad if grad.dtype == t.dtype else grad.to(t.dtype)
        for t, grad in zip(inputs.tensors, grads, strict=True)
    )
