"""What a caller's context, or the state of a tensor, must not change: types, signs, tangents."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from test_cross_selective_scan import make as make_picture
from test_selective_scan import BACKENDS, make, needs_cpu_kernel, relative_error
from torch import Tensor
from torch.autograd import forward_ad

from clipmamba.errors import BackendError
from clipmamba.ops import cross_selective_scan, selective_scan, selective_scan_step
from clipmamba.ops.selective_scan import watch
from clipmamba.ops.selective_scan.backends import cpu, mamba_ssm, triton
from clipmamba.ops.selective_scan.backends import torch as plain
from clipmamba.ops.selective_scan.backends.cpu.arguments import SIZE, Sizes, pack
from clipmamba.ops.selective_scan.backends.probe import Probe
from clipmamba.ops.selective_scan.interop import compat

Inputs = dict[str, Tensor | None]
Scan = Callable[..., tuple[Tensor, ...]]


def sequence(backend: str, **inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Both results."""
    options = {"delta_softplus": True, "return_last_state": True, "backend": backend}
    results: tuple[Tensor, ...] = selective_scan(**inputs, **options)
    return results


def picture(backend: str, **inputs: Tensor | None) -> tuple[Tensor, ...]:
    """The result, in a tuple."""
    return (cross_selective_scan(**inputs, delta_softplus=True, backend=backend),)


def inputs_of(scan: Scan) -> Inputs:
    """Odd sizes, every optional tensor."""
    if scan is picture:
        return make_picture(batch=2, channels=5, height=6, width=19)
    return make(channels=19, length=300, groups=1, start=True)


def leaves(inputs: Inputs) -> dict[str, Tensor]:
    """Those that are there, without a past."""
    return {name: t.detach().clone() for name, t in inputs.items() if t is not None}


def run(scan: Scan, backend: str, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Results and every gradient."""
    given = {name: t.detach().requires_grad_() for name, t in inputs.items()}
    results = scan(backend, **given)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in results]
    return [*results, *torch.autograd.grad(results, list(given.values()), weights)]


SCANS = pytest.mark.parametrize("scan", [sequence, picture])
EVERY = pytest.mark.parametrize("backend", ["reference", *BACKENDS])


# ---- the caller's context ----------------------------------------------------------------------


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        # Not the device from before: that leaves a mode on, under which networks round otherwise.
        torch.set_default_device(None)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "device": lambda: torch.device("meta"),
    "default device": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@SCANS
@EVERY
@pytest.mark.parametrize("name", CONTEXTS)
def test_defaults_change_nothing(scan: Scan, backend: str, name: str) -> None:
    inputs = leaves(inputs_of(scan))
    given = {name: t.requires_grad_() for name, t in inputs.items()}
    weights = [torch.ones_like(t) for t in scan(backend, **given)]

    def both() -> list[Tensor]:
        results = scan(backend, **given)
        return [*results, *torch.autograd.grad(results, list(given.values()), weights)]

    expected = both()
    with CONTEXTS[name]():
        actual = both()
    for one, other in zip(actual, expected, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CONTEXTS)
def test_defaults_do_not_change_a_step(name: str) -> None:
    inputs = leaves(make(length=1, bias=False))
    state = torch.zeros(2, 12, 4)
    now = {name: t[..., 0] if t.ndim == 3 else t for name, t in inputs.items()}
    expected = selective_scan_step(state, **now)
    with CONTEXTS[name]():
        actual = selective_scan_step(state, **now)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@SCANS
@EVERY
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_first_call_without_gradients_spoils_none(
    scan: Scan, backend: str, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    inputs = leaves(inputs_of(scan))
    with mode():
        without = scan(backend, **inputs)
    for one, other in zip(without, run(scan, backend, inputs), strict=False):
        assert torch.equal(one, other)


@needs_cpu_kernel
def test_large_results_are_resized_in_place_as_torchs_are() -> None:
    """As `out=` and FSDP do it."""
    inputs = make(batch=1, channels=64, length=5000, states=1)
    out, last = selective_scan(**inputs, return_last_state=True, backend="cpu")
    grads = torch.autograd.grad(out.sum() + last.sum(), [inputs["u"], inputs["delta"]])
    for result in (out.detach(), *grads):
        assert result.nbytes > 1 << 20
        result.resize_(1, 64, 6000).zero_()
        result.untyped_storage().resize_(0)


# ---- probes ------------------------------------------------------------------------------------

PROBED = CONTEXTS | {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "fake tensors": torch._subclasses.FakeTensorMode,
    "plain": nullcontext,
}


@pytest.mark.usefixtures("pretended_cuda")
@pytest.mark.parametrize("name", PROBED)
@pytest.mark.parametrize("backend", ["mamba_ssm", "triton"])
def test_a_probe_does_not_hang_on_its_callers_context(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backends' own trials, on the CPU: their verdict holds for everyone who comes later."""
    here = torch.device("cpu")
    if backend == "mamba_ssm":
        module = type(torch)("mamba_ssm.ops.selective_scan_interface")

        def scan(*inputs: Tensor, return_last_state: bool) -> object:
            assert all(t.dtype == torch.float32 for t in inputs)
            return selective_scan(*inputs, return_last_state=return_last_state, backend="reference")

        module.selective_scan_fn = scan
        for part in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"):
            monkeypatch.setitem(sys.modules, part, module)
        probe = Probe(lambda _: mamba_ssm._try(here))
    else:
        monkeypatch.setattr(triton, "forward", plain.forward)
        monkeypatch.setattr(triton, "backward", plain.backward)
        probe = Probe(lambda _: (triton._tiny_error(here) == 0, ""))
    with PROBED[name]():
        works, reason = probe()
    assert works, reason
    assert probe.outcome == (works, reason)


@pytest.mark.usefixtures("pretended_cuda")
def test_nothing_is_tried_or_kept_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[torch.device] = []

    def trial(device: torch.device) -> tuple[bool, str]:
        tried.append(device)
        return True, "works"

    probe = Probe(trial)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        works, reason = probe()
        assert not works
        assert "captured" in reason
    assert probe() == probe() == (True, "works")
    assert tried == [torch.device("cuda", 0)]


# ---- the tensors' state ------------------------------------------------------------------------


def negated(t: Tensor) -> Tensor:
    """The same values, whose sign torch has only noted."""
    noted = torch.complex(torch.zeros_like(t), -t).conj().imag
    assert noted.is_neg()
    assert torch.equal(noted, t)
    return noted


@SCANS
@EVERY
def test_a_noted_sign_counts_in_every_argument(scan: Scan, backend: str) -> None:
    inputs = leaves(inputs_of(scan))
    expected = run(scan, backend, inputs)
    for name, t in inputs.items():
        for one, other in zip(
            run(scan, backend, inputs | {name: negated(t)}), expected, strict=True
        ):
            assert relative_error(one, other.double()) < 1e-6, name
    with torch.no_grad():
        results = scan(backend, **{name: negated(t) for name, t in inputs.items()})
    for one, other in zip(results, expected, strict=False):
        assert relative_error(one, other.double()) < 1e-6


@SCANS
@EVERY
def test_a_noted_sign_counts_in_the_results_gradients(scan: Scan, backend: str) -> None:
    given = {name: t.requires_grad_() for name, t in leaves(inputs_of(scan)).items()}
    results = scan(backend, **given)
    weights = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1)) for t in results]
    grads = [
        torch.autograd.grad(results, list(given.values()), some, retain_graph=True)
        for some in ([negated(t) for t in weights], weights)
    ]
    for one, other in zip(*grads, strict=True):
        assert relative_error(one, other.double()) < 1e-6


def test_a_noted_sign_counts_in_other_packages_blocks() -> None:
    u, delta, A, B, C, D, z, bias, _ = leaves(make(start=True)).values()
    tensors = [u, delta, A, B[:, None], C[:, None], D, z, bias]
    extension, dout = compat._Extension(None), torch.randn_like(u)
    results = []
    for form in (negated, torch.Tensor.clone):
        given = [form(t) for t in tensors]
        out, x, gated = extension.fwd(*given, True)
        results.append([gated, *extension.bwd(*given, form(dout), x, out, None, True, False)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@SCANS
def test_a_forward_mode_derivative_is_right(scan: Scan) -> None:
    """Of every argument, by torch.func and by dual tensors: `auto` finds who can."""
    inputs = leaves(inputs_of(scan))
    exact = {name: t.double() for name, t in inputs.items()}
    for name, t in inputs.items():
        tangent = torch.randn(t.shape, generator=torch.Generator().manual_seed(2))
        _, expected = torch.func.jvp(
            lambda t, name=name: scan("reference", **(exact | {name: t})),
            (t.double(),),
            (tangent.double(),),
        )
        _, transformed = torch.func.jvp(
            lambda t, name=name: scan("auto", **(inputs | {name: t})), (t,), (tangent,)
        )
        with forward_ad.dual_level():
            dual = inputs | {name: forward_ad.make_dual(t, tangent)}
            parts = [forward_ad.unpack_dual(result) for result in scan("auto", **dual)]
        duals = [torch.zeros_like(p) if t is None else t for p, t in parts]
        assert expected[0].abs().max() > 0
        for actual in (transformed, duals):
            for one, other in zip(actual, expected, strict=True):
                assert relative_error(one, other) < 1e-5, name


@SCANS
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_without_forward_mode_refuses(scan: Scan, backend: str) -> None:
    inputs = leaves(inputs_of(scan))
    for name, t in inputs.items():
        with forward_ad.dual_level():
            dual = inputs | {name: forward_ad.make_dual(t, torch.ones_like(t))}
            with pytest.raises(BackendError, match="no forward-mode derivative"):
                scan(backend, **dual)
            assert scan(backend, **inputs)[0].isfinite().all()  # no tangent, nothing to refuse


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_scans_what_it_is_given(backend: str) -> None:
    inputs = leaves(make(groups=1))
    others = leaves(make(groups=1, seed=1))

    def scan(*tensors: Tensor) -> Tensor:
        return sequence(backend, **dict(zip(inputs, tensors, strict=True)))[0]

    traced = torch.jit.trace(scan, tuple(inputs.values()), check_trace=False)
    given = [t.requires_grad_() for t in others.values()]
    actual, expected = traced(*given), scan(*given)
    assert torch.equal(actual, expected)
    grads = [torch.autograd.grad(t.square().sum(), given) for t in (actual, expected)]
    for one, other in zip(*grads, strict=True):
        assert relative_error(one, other.double()) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_made_without_gradients_can_be_differentiated(backend: str) -> None:
    class Module(torch.nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return sequence(backend, **inputs)[0]

    inputs = leaves(make(length=300))
    with torch.no_grad():
        program = torch.export.export(Module(), (inputs,)).module()
    given = {name: t.requires_grad_() for name, t in inputs.items()}
    grads = [
        torch.autograd.grad(module(given).square().sum(), list(given.values()))
        for module in (program, Module())
    ]
    for one, other in zip(*grads, strict=True):
        assert relative_error(one, other.double()) < 1e-6


@SCANS
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_private_is_needed(
    scan: Scan, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another torch may lack the names that `watch` looks at."""
    inputs = leaves(inputs_of(scan))
    expected = run(scan, backend, inputs)
    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")
    assert watch._private() is None
    monkeypatch.setattr(watch, "_PRIVATE", None)
    for one, other in zip(run(scan, backend, inputs), expected, strict=True):
        assert torch.equal(one, other)
    test_a_forward_mode_derivative_is_right(scan)


# ---- what reaches C ----------------------------------------------------------------------------


def spoiled(t: Tensor) -> dict[str, Tensor]:
    """What the library would misread."""
    freed = t.clone()
    freed.untyped_storage().resize_(0)
    return {
        "another type": t.double(),
        "whole numbers": t.int(),
        "half": t.half(),
        "too short": t[..., :-1],
        "too long": torch.cat([t, t]),
        "elsewhere": t.to("meta"),
        "freed": freed,
        "negated": negated(torch.zeros_like(t, dtype=torch.float32)),
    }


@needs_cpu_kernel
@SCANS
def test_no_pointer_goes_to_c_unchecked(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor of a call, forth and back, replaced by what is not like it."""
    calls: list[tuple[Sizes, dict[str, Tensor | None]]] = []

    def record(
        library: object, sizes: Sizes, tensors: dict[str, Tensor | None], *_: object
    ) -> None:
        calls.append((sizes, dict(tensors)))

    monkeypatch.setattr(cpu, "_run", record)
    run(scan, "cpu", leaves(inputs_of(scan)))
    names: set[str] = set()
    for sizes, tensors in calls:
        assert len(pack(sizes, tensors)) == SIZE
        for name, t in tensors.items():
            if t is None:
                continue
            names.add(name)
            bad = spoiled(t)
            if name in ("A", "D", "bias", "first", "last", "dlast", "dfirst", "starts") or (
                t.ndim != 3 and name[0] == "d"
            ):
                bad["not contiguous"] = torch.stack([t, t], dim=-1)[..., 0]
            if scan is picture and name in ("out", "du"):
                bad["added up in bfloat16"] = t.bfloat16()
            packed: dict[str, bytes] = {}
            for kind, wrong in bad.items():
                with pytest.raises(ValueError, match=f"^{name} is torch"):
                    packed[kind] = pack(sizes, tensors | {name: wrong})
    expected = {"u", "delta", "B", "C", "out", "dout", "du", "ddelta", "A", "D", "bias", "starts"}
    expected |= {"last", "dA", "dD", "dbias", "dB", "dC"}
    assert names == expected | ({"z", "dz", "first", "dlast", "dfirst"} & names)
    assert len(names) == (23 if scan is sequence else 18)
