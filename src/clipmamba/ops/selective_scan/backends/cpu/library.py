"""Finding and loading of the compiled library, and its threads."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int64, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .arguments import SIZE

_FOLDER = Path(__file__).parents[2] / "lib"

_forked = False


def _mark_forked() -> None:
    global _forked
    _forked = True


# GNU OpenMP's threads do not survive a fork, and a parallel region in the child would wait for them
# forever. So a forked child, such as a DataLoader worker, scans on its own thread only.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


@dataclass(frozen=True)
class Library:
    """A compiled library.

    Attributes:
        isa: the instruction set that it was compiled for.
        lanes: channels per vector.
        scan: its function, called with the packed arguments, whether backward, `parallel`, threads.
        parallel: `GOMP_parallel` of torch's OpenMP runtime, or None.
    """

    isa: str
    lanes: int
    scan: Callable[[bytes, bool, Any, int], int]
    parallel: Any

    def threads(self) -> int:
        """Return the number of threads that a scan may use."""
        return torch.get_num_threads() if self.parallel and not _forked else 1


def isas() -> list[str]:
    """List the builds that this machine can run, best first."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        best = torch.backends.cpu.get_cpu_capability()
        return {"AVX512": ["x86-64-v4", "x86-64-v3"], "AVX2": ["x86-64-v3"]}.get(best, [])
    return ["aarch64"] if machine in ("aarch64", "arm64") else []


def load(builds: list[str]) -> tuple[Library | None, str]:
    """Load the first of these builds that exists and loads; return it or None, and the reason."""
    if not builds:
        return None, f"no build for this processor ({platform.machine()} without AVX2)"
    reason = (
        "the package was built without a C++ compiler; install a platform wheel, or install "
        "from source where c++, g++ or clang++ is found"
    )
    for isa in builds:
        path = _FOLDER / f"selective_scan-{isa}.so"
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            reason = f"{path.name} can't be loaded: {error}"
            continue
        library.clipmamba_scan_abi.restype = c_int64
        if library.clipmamba_scan_abi() != SIZE:
            reason = f"{path.name} is from another version of the package; install again"
            continue
        scan = library.clipmamba_scan
        scan.argtypes = (c_char_p, c_int, c_void_p, c_uint)
        scan.restype = c_int
        library.clipmamba_scan_lanes.restype = c_int64
        parallel = _find_parallel()
        threads = "torch's OpenMP" if parallel else "no OpenMP runtime found: one thread"
        loaded = Library(isa, library.clipmamba_scan_lanes(), scan, parallel)
        return loaded, f"fused kernels for {isa}, {threads}"
    return None, reason


def _find_parallel() -> Any:
    """Find `GOMP_parallel` in the OpenMP runtime that torch uses, or None."""
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
