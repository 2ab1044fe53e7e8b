"""Our own kernels in Triton, for CUDA devices: the scan of sequences and of pictures.

Triton comes with torch's CUDA builds on Linux and nothing here imports it before it is needed. With
TRITON_INTERPRET=1 the kernels run in Triton's interpreter on CPU tensors, slowly: that is how the
tests hold them against the reference without a GPU. docs/kernels.md says how they work.
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
"""Steps of a chunk: each is a program of its own, and the state at its start is saved."""

_ELEMENTS = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOST_OF_A_GRID = 65535  # CUDA's limit for all axes of a grid but the first
_INSTALLED = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def available() -> Verdict:
    """Whether the kernels compile here and are right: a small scan is held against plain torch."""
    if not _INSTALLED:
        return False, "triton is not installed; it comes with torch's CUDA builds on Linux"
    if _INTERPRETED:
        return True, "Triton's interpreter on the CPU, for tests"
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    if _probe.outcome is None and torch.compiler.is_compiling():
        return True, "not tried: torch.compile is at work"  # it can't run anything, yet must choose
    works, reason = _probe()
    return bool(works), reason


def supports(call: ScanCall) -> Verdict:
    """float32, float16 and bfloat16 tensors on a CUDA device, within what 32 bits can address."""
    if reason := decline(call, "cpu" if _INTERPRETED else "cuda", _ELEMENTS):
        return False, reason
    grids = {"batch elements": call.batch, "groups": call.groups, "states": call.states}
    for name, size in grids.items():
        if size > _MOST_OF_A_GRID:
            return False, f"takes at most {_MOST_OF_A_GRID} {name}, not {size}"
    if call.reach(1) >= MOST_REACH:
        return False, "takes fewer than 2^31 elements of a tensor for each batch element"
    return True, "float32 state"


MOST_REACH = 2**31
"""Offsets within a batch element are 32-bit; those of a batch element are 64-bit."""


def chunk_count(inputs: ScanInputs) -> int:
    """How many chunk-start states `forward` saves, for a sequence or each of four directions."""
    return ceil_div(inputs.delta.shape[2], CHUNK)


def _try(device: torch.device) -> tuple[bool, str]:
    """One tiny scan, forward and backward, compiled and compared.

    A Triton that imports can still lack a compiler for its launcher or know nothing of the device.
    """
    try:
        from triton.errors import TritonError
    except ImportError as failure:
        return False, f"triton does not import: {failure}"
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
    """Largest error of any result or gradient, relative to its largest value."""
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


# The kernels' module imports triton, which takes a while, and need not be there.


def forward(inputs: ScanInputs, save_states: bool) -> Results:
    """As `Kernel.forward`, for tensors of any strides."""
    from . import launch

    return launch.forward(inputs, save_states)


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """As `Kernel.backward`, for tensors of any strides."""
    from . import launch

    return launch.backward(dout, dlast, saved, inputs)
