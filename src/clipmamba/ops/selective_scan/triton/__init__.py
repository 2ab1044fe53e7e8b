"""Our own kernels in Triton, for CUDA devices: the scan of sequences and of pictures.

Triton comes with torch's CUDA builds on Linux and nothing here imports it before it is needed. With
TRITON_INTERPRET=1 the kernels run in Triton's interpreter on CPU tensors, slowly: that is how the
tests hold them against the reference without a GPU. docs/kernels.md says how they work.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess

import torch
from torch import Tensor

from ..interface import ScanCall, ScanInputs, Verdict
from ..torch_scan import Gradients
from ..torch_scan import backward as plain_backward
from ..torch_scan import forward as plain_forward

CHUNK = 64
"""Steps of a chunk: each is a program of its own, and the state at its start is saved."""

_ELEMENTS = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOST_BATCHES = 65535  # a limit of CUDA's grids
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
    if torch.compiler.is_compiling():  # a graph in the making can't run anything
        return True, "not tried: torch.compile is at work"
    return _probe()


def supports(call: ScanCall) -> Verdict:
    """float32, float16 and bfloat16 tensors on a CUDA device."""
    wanted = "cpu" if _INTERPRETED else "cuda"
    if call.device.type != wanted:
        return False, f"the tensors are on {call.device}, not on a {wanted} device"
    other = call.dtypes - _ELEMENTS
    if other:
        names = ", ".join(sorted(map(str, other)))
        return False, f"takes float32, float16 and bfloat16, not {names}"
    if call.batch > _MOST_BATCHES:
        return False, f"takes at most {_MOST_BATCHES} batch elements, not {call.batch}"
    if call.channels * call.length >= 2**31:
        return False, "takes fewer than 2^31 elements of u and delta for each batch element"
    return True, "float32 state"


def chunk_count(length: int) -> int:
    """How many chunk-start states a sequence of this length has."""
    return (length + CHUNK - 1) // CHUNK


def picture_chunks(height: int, width: int) -> int:
    """How many chunk-start states each of a picture's directions has."""
    return chunk_count(height * width)


@functools.cache
def _probe() -> Verdict:
    """One tiny scan, forward and backward, compiled and compared.

    A Triton that imports can still lack a compiler for its launcher or know nothing of the device.
    """
    try:
        from triton.errors import TritonError
    except ImportError as failure:
        return False, f"triton does not import: {failure}"
    try:
        error = _tiny_error()
    except (
        *(ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError),
        *(TritonError, subprocess.SubprocessError),
    ) as failure:
        return False, f"the kernels don't run here: {type(failure).__name__}: {failure}"
    if not error < 1e-4:
        return False, f"the kernels' results are wrong here, by {error:.0e} of plain torch's"
    return True, "our Triton kernels"


def _tiny_error() -> float:
    """Largest error of any result or gradient, relative to its largest value."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to("cuda")

    channels, steps, states = 20, 2 * CHUNK + 5, 4
    u, delta, z, dout = (normal(1, channels, steps) for _ in range(4))
    B, C = (normal(1, 1, states, steps) for _ in range(2))
    D, bias = (normal(channels) for _ in range(2))
    first, dlast = (normal(1, channels, states) for _ in range(2))
    inputs = ScanInputs(
        u, delta, -normal(channels, states).exp(), B, C, D, z, bias, first, delta_softplus=True
    )
    results = []
    for ahead, back in ((forward, backward), (plain_forward, plain_backward)):
        out, last, saved = ahead(inputs, True)
        results.append((out, last, *back(dout, dlast, saved, inputs)))
    errors = [
        float((ours - truth).abs().max() / truth.abs().max())
        for ours, truth in zip(*results, strict=True)
        if ours is not None and truth is not None
    ]
    return float("nan") if any(error != error for error in errors) else max(errors)


# The kernels' module imports triton, which takes a while, and need not be there.


def forward(inputs: ScanInputs, save_states: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `torch_scan.forward`."""
    from . import launch

    return launch.forward(inputs, save_states)


def backward(dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs) -> Gradients:
    """As `torch_scan.backward`."""
    from . import launch

    return launch.backward(dout, dlast, saved, inputs)


def cross_forward(
    inputs: ScanInputs, height: int, width: int, save_states: bool
) -> tuple[Tensor, Tensor]:
    """As `cpu.cross_forward`, with the sum in u's type."""
    from . import launch

    return launch.cross_forward(inputs, height, width, save_states)


def cross_backward(
    dout: Tensor, saved: Tensor, inputs: ScanInputs, height: int, width: int
) -> Gradients:
    """Gradients of the inputs of `cross_forward`."""
    from . import launch

    return launch.cross_backward(dout, saved, inputs, height, width)
