"""Which backend runs a call, what each declines, and what none can run."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_selective_scan import HAS_CPU, Inputs, make, needs_cpu_kernel
from torch import Tensor

from clipmamba.errors import BackendError, InputError
from clipmamba.ops import backend_table, scan_backend, selective_scan
from clipmamba.ops.selective_scan import dispatch
from clipmamba.ops.selective_scan.backends import cpu, mamba_ssm
from clipmamba.ops.selective_scan.backends.probe import Probe
from clipmamba.ops.selective_scan.interface import ScanCall, ScanInputs


def test_the_table_names_every_backend_with_a_reason() -> None:
    table = {status.name: status for status in backend_table()}
    assert list(table) == ["mamba_ssm", "cpu", "triton", "torch", "reference"]
    assert all(status.reason for status in table.values())
    assert table["torch"].available
    assert table["cpu"].available == HAS_CPU


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backends that ran, in order."""
    names: list[str] = []

    def record(call: object, name: str = "auto") -> object:
        backend = choose(call, name)
        names.append(backend.name)
        return backend

    choose = dispatch.choose
    monkeypatch.delenv("CLIPMAMBA_BACKEND", raising=False)
    # By name it can't be found: `ops` shows the function that is called like the package.
    monkeypatch.setattr(sys.modules["clipmamba.ops.selective_scan.sequence"], "choose", record)
    return names


def test_auto_takes_the_first_that_supports_the_call(used: list[str]) -> None:
    selective_scan(**make(dtype=torch.float32))
    selective_scan(**make(dtype=torch.float64))
    assert used == ["cpu" if HAS_CPU else "torch", "torch"]


def test_argument_goes_before_context_before_variable(
    used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMAMBA_BACKEND", "reference")
    selective_scan(**make())
    with scan_backend("torch"):
        selective_scan(**make())
        selective_scan(**make(), backend="reference")
        with scan_backend("auto"):
            selective_scan(**make(dtype=torch.float64))
    selective_scan(**make())
    assert used == ["reference", "torch", "reference", "torch", "reference"]


def test_a_named_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"mamba_ssm.*(not installed|no CUDA|import|on cpu)"):
        selective_scan(**make(), backend="mamba_ssm")
    monkeypatch.setattr(cpu, "LIBRARY", None)
    monkeypatch.setattr(cpu, "REASON", "built without a compiler")
    with pytest.raises(BackendError, match=r"'cpu'.*built without a compiler"):
        selective_scan(**make(), backend="cpu")
    assert selective_scan(**make()).shape == (2, 12, 63)  # auto goes on with torch


@needs_cpu_kernel
def test_cpu_declines_float64_with_the_reason() -> None:
    with pytest.raises(BackendError, match="takes bfloat16, float32, not float64"):
        selective_scan(**make(dtype=torch.float64), backend="cpu")


def test_an_unknown_backend_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="did you mean 'torch'"):
        selective_scan(**make(), backend="troch")
    with pytest.raises(InputError, match=r"scan_backend.*'troch'"), scan_backend("troch"):
        pass
    monkeypatch.setenv("CLIPMAMBA_BACKEND", "troch")
    with pytest.raises(InputError, match=r"CLIPMAMBA_BACKEND.*'troch'"):
        selective_scan(**make())


@pytest.mark.usefixtures("pretended_cuda")
def test_a_broken_mamba_ssm_is_probed_and_never_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "mamba_ssm" / "ops"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "selective_scan_interface.py").write_text("import selective_scan_cuda\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(mamba_ssm, "_INSTALLED", True)
    monkeypatch.setattr(mamba_ssm, "_probe", Probe(mamba_ssm._try))
    try:
        status = next(s for s in backend_table() if s.name == "mamba_ssm")
        assert not status.available
        assert "No module named 'selective_scan_cuda'" in status.reason
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "CUDA kernels"),
        ({"device": torch.device("cpu")}, "on cpu, not on a cuda device"),
        ({"dtypes": frozenset({torch.float64})}, "not float64"),
        ({"states": 257}, "at most 256 states"),
        ({"channels": 2**17}, "at most 65535 channels"),
        ({"batch": 2**20, "length": 2**9}, "fewer than 2^31 elements"),
        ({"length": 2**25, "states": 2**5}, "fewer than 2^31 elements"),
        ({"batch": 2**22, "states": 2**5}, "fewer than 2^31 elements"),
        ({"initial_state": True}, "from zeros only"),
        ({"last_state_grad": True}, "no gradient through the last state"),
        ({"forward_mode": True}, "no forward-mode derivative"),
    ],
)
def test_mamba_ssm_supports(change: dict[str, Any], words: str) -> None:
    call = ScanCall(
        torch.device("cuda"), frozenset({torch.float32}), batch=2, channels=8, states=4,
        groups=1, length=100, needs_grad=True, last_state_grad=False, initial_state=False,
    )  # fmt: skip
    possible, reason = mamba_ssm.BACKEND.supports(call._replace(**change))
    assert possible == (not change)
    assert words in reason


@pytest.mark.parametrize("name", ["u", "delta", "B", "C", "z"])
def test_mamba_ssm_declines_views_that_32_bits_cannot_address(name: str) -> None:
    inputs = {k: None if t is None else t.detach().to("meta") for k, t in make().items()}
    inputs |= {k: inputs[k].unsqueeze(1) for k in "BC"}
    for axis in (0, -2, -1):
        t = inputs[name]
        strides = list(t.stride())
        strides[axis] = 2**31 // (t.shape[axis] - 1) + 1
        view = torch.empty(0, device="meta").as_strided(t.shape, strides)
        call = ScanInputs(**(inputs | {name: view})).call(last_state=False)
        possible, reason = mamba_ssm.BACKEND.supports(call._replace(device=torch.device("cuda")))
        assert not possible
        assert "2^31" in reason


def test_mamba_ssm_is_given_plain_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its extension reads memory as it lies, forth and back."""

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Tensor | None) -> Tensor:
            assert not any(t.is_neg() for t in tensors if t is not None)
            return tensors[0].clone()

        @staticmethod
        def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
            assert not dout.is_neg()
            return dout, *(None,) * 7

    def kernel(*inputs: Any, return_last_state: bool) -> tuple[Tensor, Tensor]:
        return Kernel.apply(*inputs[:8]), torch.zeros(2, 12, 4)

    monkeypatch.setattr(mamba_ssm, "_probe", lambda: (kernel, ""))
    inputs = {k: t.detach() for k, t in make().items()}
    noted = {k: torch.complex(t, -t).conj().imag for k, t in inputs.items()}
    noted["u"].requires_grad_()
    assert all(t.is_neg() for t in noted.values())
    out, _ = mamba_ssm.BACKEND.scan(ScanInputs(**noted), True)
    weight = torch.complex(out, -out).conj().imag.detach()
    (du,) = torch.autograd.grad(out, noted["u"], weight)
    assert torch.equal(du, inputs["u"])


@pytest.mark.parametrize(("softplus", "bias"), [(True, True), (True, False), (False, False)])
def test_mamba_ssm_is_given_the_least_step(
    monkeypatch: pytest.MonkeyPatch, softplus: bool, bias: bool
) -> None:
    """Its kernel knows none; the reference stands in for it here, with its arguments."""
    kernel = functools.partial(selective_scan, backend="reference")
    monkeypatch.setattr(mamba_ssm, "_probe", lambda: (kernel, ""))
    inputs = make(bias=bias)
    call = ScanInputs(*inputs.values(), None, softplus, 0.3)
    out, last = mamba_ssm.BACKEND.scan(call, False)
    options = {"delta_softplus": softplus, "least_delta": 0.3, "return_last_state": True}
    expected = selective_scan(**inputs, **options, backend="reference")
    torch.testing.assert_close((out, last), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": torch.zeros(2, 12, 62)}, "delta is"),
        ({"A": torch.zeros(11, 4)}, "A is"),
        ({"C": torch.zeros(2, 4, 62)}, "C is"),
        ({"B": torch.zeros(2, 5, 4, 63), "C": torch.zeros(2, 5, 4, 63)}, "5 groups"),
        ({"D": torch.zeros(12, dtype=torch.int64)}, "D is torch.int64"),
        ({"A": torch.zeros(12, 4, dtype=torch.complex64)}, "A is torch.complex64"),
        ({"u": torch.zeros(12, 63)}, "needs u"),
        ({"u": torch.zeros(2, 12, 0)}, "empty"),
    ],
)
def test_bad_input_is_named(change: Inputs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selective_scan(**(make() | change))


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -0.1])
def test_a_least_step_that_is_none_is_refused(step: float) -> None:
    with pytest.raises(InputError, match="least_delta must be finite and at least 0"):
        selective_scan(**make(), least_delta=step)
