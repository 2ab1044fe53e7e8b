"""Implementations that `bench_scan.py` compares the scan with: other packages, a loop in C."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

Scan = Callable[..., Tensor]


def mamba_ssm_reference() -> Scan | None:
    """Return mamba-ssm's `selective_scan_ref`, from the one file that imports without CUDA."""
    found = importlib.util.find_spec("mamba_ssm")
    if found is None or found.submodule_search_locations is None:
        return None
    sys.modules.setdefault("selective_scan_cuda", types.ModuleType("selective_scan_cuda"))
    if "mamba_ssm" not in sys.modules:
        package = types.ModuleType("mamba_ssm")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["mamba_ssm"] = package
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    return lambda *tensors: selective_scan_ref(*tensors, delta_softplus=True)


def mambapy() -> Scan | None:
    """Return the same recurrence through mambapy's parallel scan, which takes (B, L, D, N)."""
    if importlib.util.find_spec("mambapy") is None:
        return None
    from mambapy.pscan import pscan

    def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Tensor) -> Tensor:
        D, z, bias = rest
        step = F.softplus(delta + bias[:, None]).transpose(1, 2)
        B, C = (t.transpose(1, 2)[:, :, None] for t in (B, C))
        drive = (step * u.transpose(1, 2))[..., None] * B
        states = pscan(torch.exp(step[..., None] * A), drive)
        y = (states * C).sum(-1).transpose(1, 2) + D[:, None] * u
        return y * F.silu(z)

    return scan


@contextlib.contextmanager
def compiled(name: str, *flags: str) -> Iterator[ctypes.CDLL]:
    """Compile a source beside this script to a library, with vectors as wide as ours."""
    names = ("cc", "gcc", "clang") if name.endswith(".c") else ("c++", "g++", "clang++")
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        raise click.ClickException(f"{name} needs a compiler; install one or leave this part out")
    isa = "-march=x86-64-v3" if torch.backends.cpu.get_cpu_capability() == "AVX2" else None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(__file__).with_name(name), Path(folder) / "library.so"
        command = [compiler, "-O3", isa or "-march=native", "-shared", "-fPIC", *flags]
        subprocess.run([*command, str(source), "-o", str(library), "-lm"], check=True)
        yield ctypes.CDLL(str(library))


@contextlib.contextmanager
def loop_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> Iterator[Callable[[], Tensor]]:
    """Prepare `loop_scan.c` on these inputs: batch 1, with softplus; a call returns y (1, D, L).

    The inputs are first put into its best layout, and its channels are divided among as many
    threads as torch has.
    """
    (channels, length), states = u.shape[1:], A.shape[1]
    by_step = [t[0].T.contiguous() for t in (u, delta, B, C)]
    h, y = torch.empty(channels, states), torch.empty(length, channels)
    threads = torch.get_num_threads()
    cuts = [channels * i // threads for i in range(threads + 1)]
    with (
        compiled("loop_scan.c", "-ffast-math", f"-DN={states}") as library,
        ThreadPoolExecutor(threads) as pool,
    ):
        tensors = (*by_step[:2], A, *by_step[2:], h, y)
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
        sizes = [ctypes.c_int64(length), ctypes.c_int64(channels)]

        def share(first: int, last: int) -> None:
            library.loop_scan(*pointers, *sizes, ctypes.c_int64(first), ctypes.c_int64(last))

        def scan() -> Tensor:
            h.zero_()
            list(pool.map(share, cuts[:-1], cuts[1:]))
            return y.T[None]

        yield scan
