"""The fused CPU kernels: a small C++ library, built with the package and called by ctypes.

The library has no dependency, not even OpenMP: it is handed the address of `GOMP_parallel` of the
runtime that torch has already loaded, so one pool of threads serves both. Which of the shipped
libraries is loaded follows the instruction set that torch itself found.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from ctypes import POINTER, c_int, c_int64, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .interface import CHUNK, ScanCall, ScanInputs, Verdict, chunk_count, picture_chunks
from .torch_scan import Gradients

_FOLDER = Path(__file__).parent / "lib"
_ELEMENTS = frozenset({torch.float32, torch.bfloat16})
# Below this many (b, d, l, n) cells waking a second thread costs more than it saves.
_WORTH_THREADS = 1 << 16
_HUGE_PAGE, _MADV_HUGEPAGE = 2 << 20, 14
_LARGE = 32 << 20

if sys.platform == "linux":
    _madvise = ctypes.CDLL(None).madvise
    _madvise.argtypes = (c_void_p, c_size_t, c_int)

_forked = False


def _mark_forked() -> None:
    global _forked
    _forked = True


# GNU OpenMP's threads do not survive a fork, and a parallel region in the child waits for them for
# ever: a forked child (a DataLoader worker, say) runs on its own thread only.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


class _View(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("is_bf16", c_int64),
        ("batch", c_int64),
        ("group", c_int64),
        ("row", c_int64),
        ("step", c_int64),
    )


_SIZES = (
    *("batch", "groups", "rows", "steps", "states"),
    *("chunk", "chunks", "slices", "softplus", "height", "width"),
)
_VIEWS = ("u", "delta", "z", "B", "C", "out", "dout", "du", "ddelta", "dz")
_POINTERS = (
    *("A", "D", "bias", "starts", "first", "last", "dlast", "dfirst"),
    *("dA", "dD", "dbias", "dB", "dC"),
)


class _Args(ctypes.Structure):
    """Mirror of `Args` in csrc/selective_scan.cpp."""

    _fields_ = (
        *((name, c_int64) for name in _SIZES),
        *((name, _View) for name in _VIEWS),
        *((name, c_void_p) for name in _POINTERS),
    )


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
        if library.clipmamba_scan_abi() != ctypes.sizeof(_Args):
            reason = f"{path.name} is from another version of the package; install again"
            continue
        scan = library.clipmamba_scan
        scan.argtypes = (POINTER(_Args), c_int, c_void_p, c_uint)
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


def _view(t: Tensor | None, groups: int = 0) -> _View:
    """A (B, D, L) tensor with its channels in groups, or a (B, G, N, L) tensor if groups is 0."""
    if t is None:
        return _View(None, 0, 0, 0, 0, 0)
    is_bf16 = t.dtype == torch.bfloat16
    if groups:
        batch, row, step = t.stride()
        return _View(t.data_ptr(), is_bf16, batch, row * (t.shape[1] // groups), row, step)
    return _View(t.data_ptr(), is_bf16, *t.stride())


def _pointer(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _new(like: Tensor) -> Tensor:
    """A dense tensor of this shape and type; a large one asks Linux for huge pages.

    The system takes memory beyond 32 MB back at every free, and a page fault for each 4 KB of it,
    call after call, would cost half as much as the scan itself.
    """
    new = torch.empty(like.shape, dtype=like.dtype)
    _in_huge_pages(new)
    return new


def _in_huge_pages(t: Tensor) -> None:
    if t.nbytes >= _LARGE and sys.platform == "linux":
        begin = -(-t.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
        length = (t.data_ptr() + t.nbytes - begin) // _HUGE_PAGE * _HUGE_PAGE
        _madvise(begin, length, _MADV_HUGEPAGE)  # advice: whether it is taken changes no result


def _floats(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.to(torch.float32).contiguous()


def _slices(pairs: int, blocks: int, threads: int) -> int:
    """Into how many tasks to cut each (batch, group) pair's channel blocks.

    The fewest that give the shortest finish: every slice beyond the first costs its own dB and dC.
    """
    if threads == 1:
        return 1

    def finish(slices: int) -> int:
        return -(-pairs * slices // threads) * -(-blocks // slices)

    return min(range(1, min(blocks, threads) + 1), key=finish)


def _run(library: _Library, args: _Args, backward: bool, threads: int) -> None:
    error = library.scan(ctypes.byref(args), backward, library.parallel, threads)
    if error:
        raise MemoryError("the selective scan could not allocate its scratch memory")


def _library() -> _Library:
    if _LIBRARY is None:  # only reached by calling the op directly
        raise RuntimeError(f"the fused CPU scan can't run: {_REASON}")
    return _LIBRARY


def _plan(
    inputs: ScanInputs, library: _Library, picture: tuple[int, int] | None = None
) -> tuple[_Args, int]:
    """The call's sizes and inputs, and how many threads to use.

    Args:
        inputs: Of the scan; A, D, delta_bias and initial_state as contiguous float32, which must
            outlive the call. Of a picture, u is (B, D, H * W).
        library: The one that will run.
        picture: Its height and width, if u is one.
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus = inputs
    batch, channels, length = delta.shape
    groups, states = B.shape[1], A.shape[1]
    rows, pairs = channels // groups, batch * (1 if picture else groups)
    worth = delta.numel() * states >= _WORTH_THREADS
    threads = torch.get_num_threads() if worth and library.parallel and not _forked else 1
    slices = _slices(pairs, -(-rows // library.lanes), threads)
    args = _Args(
        batch=batch,
        groups=groups,
        rows=rows,
        steps=length,
        states=states,
        chunk=CHUNK,
        chunks=picture_chunks(*picture) if picture else chunk_count(length),
        slices=slices,
        softplus=delta_softplus,
    )
    if picture:
        args.height, args.width = picture
    args.u = _view(u, 1 if picture else groups)
    args.delta, args.z = _view(delta, groups), _view(z, groups)
    args.B, args.C = _view(B), _view(C)
    args.A, args.D, args.bias = _pointer(A), _pointer(D), _pointer(delta_bias)
    args.first = _pointer(initial_state)
    return args, min(threads, pairs * slices)


def _float_parameters(inputs: ScanInputs) -> ScanInputs:
    return inputs._replace(
        A=inputs.A.to(torch.float32).contiguous(),
        D=_floats(inputs.D),
        delta_bias=_floats(inputs.delta_bias),
        initial_state=_floats(inputs.initial_state),
    )


def forward(inputs: ScanInputs, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `torch_scan.forward`, for float32 and bfloat16 tensors of any strides on the CPU."""
    out = _new(inputs.u)
    last, saved = _forward(inputs, out, save_states)
    return out, last, saved


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """As `torch_scan.backward`, for float32 and bfloat16 tensors of any strides on the CPU."""
    du = _new(inputs.u)
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
    out = torch.empty_like(inputs.u, dtype=torch.float32)
    _in_huge_pages(out)
    _, saved = _forward(inputs, out, save_states, (height, width))
    return out, saved


def cross_backward(
    dout: Tensor, saved: Tensor, inputs: ScanInputs, height: int, width: int
) -> Gradients:
    """Gradients of the inputs of `cross_forward`; that of u in float32."""
    du = torch.empty_like(inputs.u, dtype=torch.float32)
    _in_huge_pages(du)
    return _backward(dout, None, saved, inputs, du, (height, width))


def _forward(
    inputs: ScanInputs, out: Tensor, save_states: bool, picture: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    library = _library()
    inputs = _float_parameters(inputs)
    args, threads = _plan(inputs, library, picture)
    batch, channels, states = len(inputs.u), *inputs.A.shape
    last = torch.empty(batch, channels, states)
    saved = torch.empty(batch, args.chunks if save_states else 0, states, channels)
    args.out = _view(out, 1 if picture else args.groups)
    args.last, args.starts = _pointer(last), _pointer(saved) if save_states else None
    _run(library, args, False, threads)
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
    given = inputs
    inputs = _float_parameters(inputs)
    args, threads = _plan(inputs, library, picture)
    saved, dlast = saved.contiguous(), _floats(dlast)
    delta, z = inputs.delta, inputs.z
    ddelta = _new(delta)
    dz = None if z is None else _new(z)
    # Parameters get one row per batch element and B, C one per slice; each sum has a fixed order.
    dA = torch.empty(args.batch, *inputs.A.shape)
    dfirst = None if inputs.initial_state is None else torch.empty_like(dA)
    dD, dbias = torch.empty(dA.shape[:2]), torch.empty(dA.shape[:2])
    dB = torch.empty(args.slices, *inputs.B.shape)
    dC = torch.empty_like(dB)
    shared = 1 if picture else args.groups
    args.dout, args.du = _view(dout, shared), _view(du, shared)
    args.ddelta, args.dz = _view(ddelta, args.groups), _view(dz, args.groups)
    args.starts, args.dlast, args.dfirst = _pointer(saved), _pointer(dlast), _pointer(dfirst)
    args.dA, args.dD, args.dbias = _pointer(dA), _pointer(dD), _pointer(dbias)
    args.dB, args.dC = _pointer(dB), _pointer(dC)
    _run(library, args, True, threads)
    dB, dC = (t[0] if args.slices == 1 else t.sum(0) for t in (dB, dC))
    grads = (du, ddelta, dA.sum(0), dB, dC, dD.sum(0), dz, dbias.sum(0), dfirst)
    return tuple(
        None if t is None or grad is None else grad.to(t.dtype)
        for t, grad in zip(given.tensors, grads, strict=True)
    )
