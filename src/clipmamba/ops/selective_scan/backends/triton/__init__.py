"""Our own Triton kernels for CUDA devices: the scan of sequences and of pictures.

Triton comes with torch's CUDA builds on Linux, and is imported only when it is needed. With
TRITON_INTERPRET=1 the kernels run slowly in Triton's interpreter on CPU tensors, which is how tests
compare them with the reference without a GPU. docs/kernels.md describes how they work.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess

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
)
from .. import torch as plain
from ..probe import Probe

CHUNK = 64
"""Steps per chunk: each chunk is a program of its own, and the state at its start is saved."""

_ELEMENTS = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOST_OF_A_GRID = 65535  # CUDA's limit for all axes of a grid but the first
_INSTALLED = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def available() -> Verdict:
    """Tell whether the kernels compile here and agree with plain torch on a small scan."""
    if not _INSTALLED:
        return False, "triton is not installed; it comes with torch's CUDA builds on Linux"
    if _INTERPRETED:
        return True, "Triton's interpreter on the CPU, for tests"
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    if _probe.outcome is None and torch.compiler.is_compiling():
        return True, "not tried while torch.compile is tracing"  # which can't run a probe
    works, reason = _probe()
    return bool(works), reason


def supports(call: ScanCall) -> Verdict:
    """Tell whether it can run a call: float32, float16 and bfloat16 on CUDA, in 32-bit range."""
    if reason := decline(call, "cpu" if _INTERPRETED else "cuda", _ELEMENTS):
        return False, reason
    grids = {"batch elements": call.batch, "groups": call.groups, "states": call.states}
    for name, size in grids.items():
        if size > _MOST_OF_A_GRID:
            return False, f"takes at most {_MOST_OF_A_GRID} {name}, not {size}"
    if call.reach(1) >= MOST_REACH:
        return False, "takes fewer than 2^31 elements of a tensor per batch element"
    return True, "float32 state"


MOST_REACH = 2**31
"""Limit on elements: offsets within a batch element are 32-bit, those of batch elements 64-bit."""


def chunk_count(inputs: ScanInputs) -> int:
    """Count the chunk-start states that `forward` saves, per sequence or direction."""
    return ceil_div(inputs.delta.shape[2], CHUNK)


def _try(device: torch.device) -> tuple[bool, str]:
    """Compile a tiny scan, forward and backward, and compare it with plain torch.

    Triton may import and still lack a compiler for its launcher, or not support the device.
    """
    try:
        from triton.errors import TritonError
    except ImportError as failure:
        return False, f"triton can't be imported: {failure}"
    try:
        error = _tiny_error(device)
    except (
        *(ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError),
        *(TritonError, subprocess.SubprocessError),
    ) as failure:
        return False, f"the kernels don't run here: {type(failure).__name__}: {failure}"
    if not error < 1e-4:
        return False, f"the kernels' results are wrong here, by {error:.0e} of plain torch's"
    return True, "our Triton kernels"


_probe = Probe(_try)


def _tiny_error(device: torch.device) -> float:
    """Compute the largest error of any result or gradient, relative to its largest value."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)

    channels, steps, states = 20, 2 * CHUNK + 5, 4
    u, delta, z, dout = (normal(1, channels, steps) for _ in range(4))
    B, C = (normal(1, 1, states, steps) for _ in range(2))
    D, bias = (normal(channels) for _ in range(2))
    first, dlast = (normal(1, channels, states) for _ in range(2))
    inputs = ScanInputs(
        u, delta, -normal(channels, states).exp(), B, C, D, z, bias, first, delta_softplus=True
    )
    results: list[dict[str, Tensor | None]] = []
    for ahead, back in ((forward, backward), (plain.forward, plain.backward)):
        out, last, saved = ahead(inputs, True)
        results.append(back(dout, dlast, saved, inputs) | {"out": out, "last": last})
    ours, truth = results
    errors = [
        float((t - exact).abs().max() / exact.abs().max())
        for name, t in ours.items()
        if t is not None and (exact := truth[name]) is not None
    ]
    return float("nan") if any(error != error for error in errors) else max(errors)


# The kernels' module imports triton, which is slow to import and may be missing.


def forward(inputs: ScanInputs, save_states: bool) -> Results:
    """Implement `Kernel.forward` for tensors of any strides."""
    from . import launch

    return launch.forward(inputs, save_states)


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """Implement `Kernel.backward` for tensors of any strides."""
    from . import launch

    return launch.backward(dout, dlast, saved, inputs)
