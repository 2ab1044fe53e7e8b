"""The Triton kernels: in the interpreter, compiled for GPUs that are not here, and as a backend."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_selective_scan import assert_close, make, run

from clipmamba.errors import BackendError
from clipmamba.ops import backend_table, selective_scan
from clipmamba.ops.selective_scan.backends import triton
from clipmamba.ops.selective_scan.backends.probe import Probe
from clipmamba.ops.selective_scan.interface import ScanCall, ScanInputs

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def own_process(*command: str | Path, **variables: str) -> str:
    """Output of a python command that succeeds."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"} | variables
    result = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-4000:]
    return result.stdout


@needs_triton
@pytest.mark.slow
def test_every_gradient_in_the_interpreter() -> None:
    """The tests of `interpreted_triton.py`."""
    own_process("-m", "pytest", HERE / "interpreted_triton.py", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    ["scan_chunks, columns", "differentiate_chunks, sequence", "differentiate_chunks, columns"],
)
def test_registers_and_spills(kernel: str, tmp_path: Path) -> None:
    """The largest, at N = 16, for sm_80, sm_90 and sm_100 in three types; the script has all."""
    script = HERE.parents[1] / "scripts" / "compile_kernels.py"
    said = own_process(
        script, "--only", kernel, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)
    )
    assert re.search(r"^(9|18) kernels, 0 over the limits", said, re.MULTILINE), said


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_the_gpu(dtype: torch.dtype) -> None:
    assert triton.available()[0], triton.available()[1]
    inputs = {
        name: None if t is None else t.cuda()
        for name, t in make(channels=70, groups=2, length=1031, dtype=dtype, start=True).items()
    }
    assert_close(run(inputs, "triton"), run(inputs, "reference", dtype=torch.float64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_why_it_cannot_run() -> None:
    status = {s.name: s for s in backend_table()}["triton"]
    assert not status.available
    assert "CUDA" in status.reason
    with pytest.raises(BackendError, match=r"'triton' can't run this call: .*CUDA"):
        selective_scan(**make(), backend="triton")


def test_a_machine_without_triton_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "_INSTALLED", False)
    assert triton.available() == (
        False,
        "triton is not installed; it comes with torch's CUDA builds on Linux",
    )


CALL = ScanCall(
    torch.device("cuda"), frozenset({torch.float32, torch.float16, torch.bfloat16}),
    batch=2, channels=8, states=4, groups=1, length=100, needs_grad=True,
    last_state_grad=True, initial_state=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "float32 state"),
        ({"device": torch.device("cpu")}, "on cpu, not on a cuda device"),
        ({"dtypes": frozenset({torch.float64})}, "not float64"),
        ({"forward_mode": True}, "no forward-mode derivative"),
        ({"batch": 70_000}, "at most 65535 batch elements"),
        ({"groups": 70_000}, "at most 65535 groups"),
        ({"states": 70_000}, "at most 65535 states"),
        ({"length": 2**30}, "fewer than 2^31 elements"),
        ({"length": 2**20, "states": 2**11}, "fewer than 2^31 elements"),
        ({"length": 2**20, "states": 2**9, "groups": 2**2}, "fewer than 2^31 elements"),
        ({"channels": 2**20, "states": 2**11}, "fewer than 2^31 elements"),
    ],
)
def test_supports(change: dict[str, Any], words: str) -> None:
    possible, reason = triton.supports(CALL._replace(**change))
    assert possible == (not change)
    assert words in reason


@pytest.mark.parametrize("name", ["u", "delta", "B", "C", "z", "initial_state"])
@pytest.mark.parametrize("axis", [1, 2])
def test_views_that_32_bits_cannot_address_are_declined(name: str, axis: int) -> None:
    """A small view of something huge; over the batch any stride will do."""
    inputs = {
        name: None if t is None else t.detach().to("meta").unsqueeze(1)
        if name in ("B", "C") else t.detach().to("meta")
        for name, t in make(start=True).items()
    }  # fmt: skip

    def supported(axis: int) -> tuple[bool, str]:
        t = inputs[name]
        strides = list(t.stride())
        strides[axis] = 2**31 if axis == 0 else 2**31 // (t.shape[axis] - 1) + 1
        view = torch.empty(0, device="meta").as_strided(t.shape, strides)
        call = ScanInputs(**(inputs | {name: view})).call(last_state=True)
        return triton.supports(call._replace(device=torch.device("cuda")))

    assert supported(0)[0]
    axis += inputs[name].ndim - 3  # of B and C the states and the steps
    assert supported(axis) == (
        False, "takes fewer than 2^31 elements of a tensor per batch element",
    )  # fmt: skip


@pytest.mark.usefixtures("pretended_cuda")
def test_kernels_that_fail_or_are_wrong_are_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> float:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(triton, "_INSTALLED", True)
    monkeypatch.setitem(sys.modules, "triton.errors", _errors())
    cases = [(broken, "find C compiler"), (lambda _: 0.5, "wrong here, by 5e-01")]
    cases.append((lambda _: float("nan"), "wrong here"))
    for tried, words in cases:
        monkeypatch.setattr(triton, "_tiny_error", tried)
        monkeypatch.setattr(triton, "_probe", Probe(triton._try))
        possible, reason = triton.available()
        assert not possible
        assert words in reason


def _errors() -> object:
    """`triton.errors`, for machines without triton."""
    module = type(sys)("triton.errors")
    module.TritonError = type("TritonError", (Exception,), {})
    return module


def test_importing_ops_does_not_import_triton() -> None:
    code = "import sys, clipmamba.ops; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
