"""The scan against the float64 reference: outputs and every gradient, on each backend."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peak import peak_memory
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.ops import (
    selective_scan,
    selective_scan_blocks,
    selective_scan_step,
)
from clipmamba.ops.selective_scan.backends import cpu

HAS_CPU, WHY = cpu.available()
REQUIRED = os.environ.get("CLIPMAMBA_REQUIRE_CPU_KERNEL") == "1"
needs_cpu_kernel = pytest.mark.skipif(not HAS_CPU and not REQUIRED, reason=f"cpu backend: {WHY}")
BACKENDS = ["torch", pytest.param("cpu", marks=needs_cpu_kernel)]

Inputs = dict[str, Tensor | None]
PARAMETERS = ("A", "D", "delta_bias", "initial_state")


def make(
    batch: int = 2,
    channels: int = 12,
    length: int = 63,
    states: int = 4,
    groups: int = 1,
    *,
    z: bool = True,
    D: bool = True,
    bias: bool = True,
    start: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Inputs:
    """Activations of the type asked for; parameters at least float32, as under autocast."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = (batch, groups, states, length) if groups > 1 else (batch, states, length)
    inputs: Inputs = {
        "u": normal(batch, channels, length),
        "delta": 0.1 + 0.1 * torch.tanh(normal(batch, channels, length)),
        "A": -4 * torch.rand(channels, states, generator=generator, dtype=torch.float64) - 0.1,
        "B": normal(*rows),
        "C": normal(*rows),
        "D": normal(channels) if D else None,
        "z": normal(batch, channels, length) if z else None,
        "delta_bias": normal(channels) - 2 if bias else None,
    }
    if start:
        inputs["initial_state"] = normal(batch, channels, states)
    wide = torch.promote_types(dtype, torch.float32)
    return {
        name: None if t is None else t.to(wide if name in PARAMETERS else dtype).requires_grad_()
        for name, t in inputs.items()
    }


def run(
    inputs: Inputs,
    backend: str,
    *,
    softplus: bool = True,
    least: float = 0.0,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Both results and the gradient of every input, for fixed random gradients of the results."""
    leaves = {
        name: None if t is None else t.detach().to(dtype or t.dtype).requires_grad_()
        for name, t in inputs.items()
    }
    out, last = selective_scan(
        **leaves,
        delta_softplus=softplus,
        return_last_state=True,
        least_delta=least,
        backend=backend,
    )
    generator = torch.Generator().manual_seed(1)
    # Rounded to bfloat16, so that every backend gets the very same numbers.
    weights = [
        torch.randn(t.shape, generator=generator).bfloat16().to(t.dtype) for t in (out, last)
    ]
    given = {name: t for name, t in leaves.items() if t is not None}
    grads = torch.autograd.grad((out, last), list(given.values()), weights)
    return {"out": out.detach(), "last": last.detach()} | {
        f"d{name}": grad for name, grad in zip(given, grads, strict=True)
    }


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """RMS of the difference over RMS of the truth (or 1, where the truth is zero)."""
    scale = expected.square().mean().sqrt().item()
    return (actual.double() - expected).square().mean().sqrt().item() / (scale or 1.0)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Tolerances of the house: float64 1e-10; float32 1e-5, gradients 1e-4; bfloat16 1e-2."""
    assert actual.keys() == expected.keys()
    low = torch.bfloat16 in {t.dtype for t in actual.values()}
    for name, value in actual.items():
        assert value.shape == expected[name].shape
        limit = 1e-5 if name in ("out", "last") else 1e-4
        limit = 1e-10 if value.dtype == torch.float64 else 1e-2 if low else limit
        error = relative_error(value, expected[name])
        assert error <= limit, f"{name}: relative error {error:.1e} > {limit:.0e}"


@pytest.mark.skipif(not REQUIRED, reason="CLIPMAMBA_REQUIRE_CPU_KERNEL is not 1")
def test_the_required_library_is_there() -> None:
    assert HAS_CPU, WHY


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 256, 257, 1031])
def test_odd_lengths(backend: str, length: int) -> None:
    inputs = make(length=length, channels=19)
    assert_close(run(inputs, backend), run(inputs, "reference", dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("states", [1, 3, 16])
@pytest.mark.parametrize(("groups", "channels"), [(1, 16), (1, 37), (2, 24), (2, 64), (4, 80)])
def test_groups_and_states(backend: str, groups: int, channels: int, states: int) -> None:
    inputs = make(channels=channels, groups=groups, states=states, length=70)
    assert_close(run(inputs, backend), run(inputs, "reference", dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 40, 600])
def test_an_initial_state(backend: str, length: int) -> None:
    inputs = make(length=length, channels=21, groups=3, states=5, start=True)
    expected = run(inputs, "reference", dtype=torch.float64)
    assert "dinitial_state" in expected
    assert_close(run(inputs, backend), expected)


@pytest.mark.parametrize("backend", [*BACKENDS, "reference"])
@pytest.mark.parametrize("z", [True, False])
def test_blocks_are_the_whole(backend: str, z: bool) -> None:
    """A sequence scanned in uneven blocks, the state carried on, gradients included."""
    inputs = make(length=601, channels=20, groups=2, z=z, start=True)
    whole = selective_scan(**inputs, delta_softplus=True, backend=backend)
    along = [inputs[name] for name in ("u", "delta", "B", "C", "z") if inputs[name] is not None]
    fixed = {name: inputs[name] for name in PARAMETERS}  # the state before the first block, too
    cuts = [t.split([1, 300, 47, 253], dim=-1) for t in along]
    outs = selective_scan_blocks(
        zip(*cuts, strict=True), **fixed, delta_softplus=True, backend=backend
    )
    pieces = torch.cat(list(outs), dim=-1)
    assert relative_error(pieces, whole) < 2e-6
    leaves = [t for t in inputs.values() if t is not None]
    weight = torch.randn(whole.shape)
    pairs = [torch.autograd.grad(y, leaves, weight) for y in (pieces, whole)]
    for piecewise, expected in zip(*pairs, strict=True):
        assert relative_error(piecewise, expected) < 1e-5


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("full", [True, False])
def test_single_steps_are_the_whole(groups: int, full: bool) -> None:
    options = {"z": full, "D": full, "bias": full, "start": True, "dtype": torch.float64}
    inputs = make(length=9, groups=groups, **options)
    whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    state, outs = inputs["initial_state"], []
    fixed = {name: inputs[name] for name in ("A", "D", "delta_bias")}
    for t in range(9):
        now = {
            name: None if inputs[name] is None else inputs[name][..., t]
            for name in ("u", "delta", "B", "C", "z")
        }
        out, state = selective_scan_step(state, **now, **fixed, delta_softplus=True)
        outs.append(out)
    torch.testing.assert_close(torch.stack(outs, dim=-1), whole)
    torch.testing.assert_close(state, last)


def test_a_step_keeps_its_types_and_names_what_is_wrong() -> None:
    state, row = torch.zeros(2, 6, 4), torch.ones(2, 6, dtype=torch.bfloat16)
    A, B = -torch.ones(6, 4), torch.ones(2, 4)
    out, after = selective_scan_step(state, row, row, A, B, B)
    assert (out.dtype, after.dtype) == (torch.bfloat16, torch.float32)
    assert state.abs().sum() == 0 < after.abs().sum()
    with pytest.raises(InputError, match=r"state is \(2, 6, 3\)"):
        selective_scan_step(state[..., :3], row, row, A, B, B)
    with pytest.raises(InputError, match="needs u"):
        selective_scan_step(state, row, row, A, B[:, None].expand(2, 4, 4), B)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("z", [True, False])
@pytest.mark.parametrize("D", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_optional_inputs(backend: str, softplus: bool, z: bool, D: bool, bias: bool) -> None:
    inputs = make(z=z, D=D, bias=bias, groups=2, length=40)
    if bias and not softplus:  # a negative step would let the state explode
        inputs["delta_bias"] = inputs["delta_bias"].detach().abs()
    expected = run(inputs, "reference", softplus=softplus, dtype=torch.float64)
    assert_close(run(inputs, backend, softplus=softplus), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("length", [1, 40, 301])
def test_a_least_step(backend: str, softplus: bool, length: int) -> None:
    inputs = make(length=length, channels=19, bias=softplus, groups=1)
    expected = run(inputs, "reference", softplus=softplus, least=0.3, dtype=torch.float64)
    assert_close(run(inputs, backend, softplus=softplus, least=0.3), expected)


def test_a_least_step_is_added_to_the_step_sizes() -> None:
    """In whole scans, blocks and single steps."""
    inputs = make(length=7, dtype=torch.float64, bias=False)
    u, delta, A, B, C, D, z, _ = inputs.values()
    expected = selective_scan(u, delta + 0.3, A, B, C, D, z, backend="reference")
    assert not torch.allclose(selective_scan(u, delta, A, B, C, D, z), expected)
    for backend in ("reference", "torch"):
        found = selective_scan(u, delta, A, B, C, D, z, least_delta=0.3, backend=backend)
        torch.testing.assert_close(found, expected)
    blocks = zip(*(t.split([3, 4], dim=-1) for t in (u, delta, B, C, z)), strict=True)
    pieces = torch.cat([*selective_scan_blocks(blocks, A, D, least_delta=0.3)], dim=-1)
    torch.testing.assert_close(pieces, expected)
    now = [t[..., 0] for t in (u, delta, B, C, z)]
    state = torch.zeros(*now[0].shape, A.shape[1], dtype=torch.float64)
    out, _ = selective_scan_step(
        state, now[0], now[1], A, now[2], now[3], D, now[4], least_delta=0.3
    )
    torch.testing.assert_close(out, expected[..., 0])
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="least_delta"):
            selective_scan(u, delta, A, B, C, least_delta=bad)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 63, 300])
def test_bfloat16_activations_beside_float32_parameters(backend: str, length: int) -> None:
    inputs = make(length=length, channels=35, dtype=torch.bfloat16)
    actual = run(inputs, backend)
    assert actual["out"].dtype == actual["du"].dtype == torch.bfloat16
    assert actual["last"].dtype == actual["dA"].dtype == torch.float32
    assert_close(actual, run(inputs, "reference", dtype=torch.float64))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_every_tensor_may_have_its_own_type(backend: str) -> None:
    inputs = make(channels=20, groups=2)
    for name in ("u", "C"):
        inputs[name] = inputs[name].bfloat16()
    actual = run(inputs, backend)
    assert {name: actual[f"d{name}"].dtype for name in inputs} == {
        name: t.dtype for name, t in inputs.items()
    }
    assert_close(actual, run(inputs, "reference", dtype=torch.float64))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_autocast_does_not_touch_the_arithmetic(backend: str) -> None:
    inputs = make()
    expected = run(inputs, backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(inputs, backend)
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name


def test_torch_backend_is_exact_in_float64() -> None:
    inputs = make(length=1031, groups=2, dtype=torch.float64)
    actual = run(inputs, "torch")
    assert actual["last"].dtype == torch.float64
    assert_close(actual, run(inputs, "reference"))


def test_torch_backend_passes_gradcheck() -> None:
    inputs = make(batch=1, channels=2, length=5, states=2, dtype=torch.float64)
    names = list(inputs)

    def scan(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        return selective_scan(**given, delta_softplus=True, return_last_state=True, backend="torch")

    assert torch.autograd.gradcheck(scan, tuple(inputs.values()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_result_alone_has_its_own_gradient(backend: str) -> None:
    inputs = make()
    for pick in (0, 1):
        grads = []
        for name in (backend, "reference"):
            results = selective_scan(
                **inputs, delta_softplus=True, return_last_state=True, backend=name
            )
            grads.append(torch.autograd.grad(results[pick].sum(), inputs["u"])[0])
        assert relative_error(grads[0], grads[1].double()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_bytes_twice(backend: str) -> None:
    inputs = make(channels=96, length=520, groups=1, states=16)
    first, second = run(inputs, backend), run(inputs, backend)
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_derivative_is_refused(backend: str) -> None:
    inputs = make()
    first = torch.autograd.grad(
        selective_scan(**inputs, backend=backend).square().sum(), inputs["u"], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first[0].sum().backward()


@needs_cpu_kernel
@pytest.mark.parametrize("isa", cpu.isas())
def test_every_build_that_this_processor_can_run(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, reason = cpu.load([isa])
    assert library is not None, reason
    monkeypatch.setattr(cpu, "LIBRARY", library)
    inputs = make(channels=70, groups=2, length=301, states=6)
    assert_close(run(inputs, "cpu"), run(inputs, "reference", dtype=torch.float64))


@needs_cpu_kernel
def test_threads_and_batch_do_not_change_the_output() -> None:
    inputs = make(batch=3, channels=96, length=300, groups=1, states=16)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(run(inputs, "cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert torch.equal(results[0]["out"], other["out"])
        assert_close(other, {name: t.double() for name, t in results[0].items()})
    one = {name: t if t is None or name in PARAMETERS else t[:1] for name, t in inputs.items()}
    assert torch.equal(run(one, "cpu")["out"], results[0]["out"][:1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strides(backend: str, dtype: torch.dtype) -> None:
    inputs = make(channels=48, groups=2, states=3, length=35, dtype=dtype)
    expected = run(inputs, backend)
    strided = {
        "u": inputs["u"].transpose(1, 2).contiguous().transpose(1, 2),  # channels last
        "delta": torch.cat([inputs["delta"]] * 2, dim=1)[:, :48],
        "z": torch.stack([inputs["z"]] * 2, dim=-1)[..., 0],  # no axis is dense
        "B": inputs["B"].permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0),
        "C": torch.cat([inputs["C"]] * 2, dim=2)[:, :, :3],
        "A": inputs["A"].T.contiguous().T,
    }
    actual = run(inputs | strided, backend)
    if backend == "cpu":
        for name, value in actual.items():
            assert torch.equal(value, expected[name]), name
    else:
        assert_close(actual, {name: value.double() for name, value in expected.items()})


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_steps(backend: str) -> None:
    inputs = make(length=90, channels=17)
    delta = torch.linspace(-200, 200, 90).repeat(2, 17, 1)
    inputs["delta"] = delta[..., torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    inputs["z"] = 100 * inputs["z"].detach()
    actual = run(inputs, backend)
    assert all(value.isfinite().all() for value in actual.values())
    assert_close(actual, run(inputs, "reference", dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_stays_where_it_belongs(backend: str, dtype: torch.dtype) -> None:
    inputs = make(batch=2, channels=20, length=30, dtype=dtype)
    u = inputs["u"].detach().clone()
    u[1, 3, 10] = float("nan")
    out = selective_scan(**(inputs | {"u": u}), delta_softplus=True, backend=backend)
    expected = torch.zeros_like(out, dtype=torch.bool)
    expected[1, 3, 10:] = True
    assert torch.equal(out.isnan(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_sequence_stays_exact(backend: str) -> None:
    inputs = make(batch=1, channels=4, length=65536, states=2)
    inputs["A"] = inputs["A"].detach() * 1e-3  # a long memory, so that errors could pile up
    with torch.no_grad():
        inputs["delta"].mul_(0.1)
    # float64 on the torch path, itself held against the reference above, is the truth here.
    assert_close(run(inputs, backend), run(inputs, "torch", dtype=torch.float64))


@needs_cpu_kernel
def test_strides_are_read_without_copies() -> None:
    """Neither channels-last inputs nor their gradient's way back copy a tensor of this size."""
    inputs = make(batch=1, channels=512, length=17000, states=1)
    names = ("u", "delta", "z")
    inputs |= {
        name: inputs[name].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
        for name in names
    }

    def scan() -> None:
        out = selective_scan(**inputs, delta_softplus=True, backend="cpu")
        torch.autograd.grad(out, [inputs[name] for name in names], torch.ones(()).expand_as(out))

    scan()
    before = peak_memory(reset=True)
    scan()
    one = 4 * inputs["u"].numel()  # 34.8 MB: beyond 32 MB freed memory goes back at once
    assert peak_memory() - before < 4.7 * one  # out, du, ddelta, dz; small sums beside


@needs_cpu_kernel
def test_channels_that_leave_the_range_of_the_quick_exponential() -> None:
    """Some channels of some blocks: their neighbours must not notice."""
    inputs = make(channels=50, length=700, states=5)
    inputs["A"] = inputs["A"].detach()
    inputs["A"][3] = -5000.0
    inputs["A"][40] = 0.0
    assert_close(run(inputs, "cpu"), run(inputs, "reference", dtype=torch.float64))


@needs_cpu_kernel
def test_results_so_large_that_they_ask_for_huge_pages() -> None:
    inputs = make(batch=1, channels=520, length=16400, states=1, z=False, D=False, bias=False)
    out = selective_scan(**inputs, backend="cpu")
    assert out.nbytes > 32 << 20
    half = {
        name: t if t is None or name in ("B", "C") else t.movedim(-2, 0)[:256].movedim(0, -2)
        for name, t in inputs.items()
    }
    assert torch.equal(out[:, :256], selective_scan(**half, backend="cpu"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_never_holds_every_state(backend: str) -> None:
    inputs = make(batch=1, channels=64, length=16384, states=32, z=False)
    run(inputs, backend)  # caches of the allocator
    before = peak_memory(reset=True)
    run(inputs, backend)
    states = 4 * inputs["u"].numel() * 32  # bytes of one (B, D, L, N) tensor: 134 MB
    assert peak_memory() - before < 0.5 * states


@needs_cpu_kernel
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("where", "scans"), [("child", 1), ("alone", 1), ("workers", 4)])
def test_runs_after_a_fork(where: str, scans: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("forking.py")), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{scans} scans\n"


@needs_cpu_kernel
def test_runs_in_several_python_threads_at_once() -> None:
    inputs = [make(seed=seed, channels=64, length=300, states=16) for seed in range(4)]
    expected = [selective_scan(**i, delta_softplus=True, backend="cpu") for i in inputs]
    with ThreadPoolExecutor(4) as pool:
        outs = list(
            pool.map(lambda i: selective_scan(**i, delta_softplus=True, backend="cpu"), inputs * 5)
        )
    for out, truth in zip(outs, expected * 5, strict=True):
        assert torch.equal(out, truth)
