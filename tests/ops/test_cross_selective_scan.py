"""The scan of a picture against four copies through the float64 reference."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from peak import peak_memory
from torch import Tensor

from clipmamba.errors import BackendError, InputError
from clipmamba.ops import cross_merge, cross_scan, cross_selective_scan, selective_scan
from clipmamba.ops.selective_scan.backends import cpu
from clipmamba.ops.selective_scan.interface import ScanInputs

HAS_CPU, WHY = cpu.available()
needs_cpu_kernel = pytest.mark.skipif(not HAS_CPU, reason=f"cpu backend: {WHY}")
BACKENDS = ["torch", pytest.param("cpu", marks=needs_cpu_kernel)]

Inputs = dict[str, Tensor | None]


def make(
    batch: int = 2,
    channels: int = 19,
    height: int = 7,
    width: int = 21,
    states: int = 3,
    *,
    full: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    generator = torch.Generator().manual_seed(height * 1000 + width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    length = height * width
    inputs: Inputs = {
        "x": normal(batch, channels, height, width),
        "delta": 0.1 + 0.1 * torch.tanh(normal(batch, 4, channels, length)),
        "A": -4 * torch.rand(4 * channels, states, generator=generator, dtype=torch.float64) - 0.1,
        "B": normal(batch, 4, states, length),
        "C": normal(batch, 4, states, length),
        "D": normal(4 * channels) if full else None,
        "delta_bias": normal(4 * channels) - 2 if full else None,
    }
    wide = torch.promote_types(dtype, torch.float32)
    return {
        name: None
        if t is None
        else t.to(wide if name in ("A", "D", "delta_bias") else dtype).requires_grad_()
        for name, t in inputs.items()
    }


def four_copies(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    least_delta: float = 0.0,
) -> Tensor:
    y = selective_scan(
        cross_scan(x).flatten(1, 2),
        delta.flatten(1, 2),
        A,
        B,
        C,
        D,
        delta_bias=delta_bias,
        delta_softplus=True,
        least_delta=least_delta,
        backend="reference",
    )
    merged = cross_merge(y.unflatten(1, (4, -1)), *x.shape[2:])
    return merged.unflatten(2, x.shape[2:])


def run(
    inputs: Inputs, scan: Callable[..., Tensor], dtype: torch.dtype | None = None
) -> list[Tensor]:
    """The result and the gradient of every input."""
    leaves = {
        name: None if t is None else t.detach().to(dtype or t.dtype).requires_grad_()
        for name, t in inputs.items()
    }
    out = scan(**leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    given = [t for t in leaves.values() if t is not None]
    return [out, *torch.autograd.grad(out, given, weight.to(out.dtype))]


def assert_close(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Tolerances of the house: float32 1e-5, gradients 1e-4; bfloat16 1e-2."""
    low = actual[0].dtype == torch.bfloat16
    for index, (value, truth) in enumerate(zip(actual, expected, strict=True)):
        assert value.shape == truth.shape
        scale = truth.square().mean().sqrt().item() or 1.0
        error = (value.double() - truth).square().mean().sqrt().item() / scale
        limit = 1e-2 if low else 1e-4 if index else 1e-5
        assert error <= limit, f"number {index}: relative error {error:.1e} > {limit:.0e}"


def scan_on(backend: str, least: float = 0.0) -> Callable[..., Tensor]:
    return functools.partial(
        cross_selective_scan, delta_softplus=True, least_delta=least, backend=backend
    )


SIZES = [(1, 1), (1, 40), (40, 1), (3, 5), (16, 16), (7, 33), (33, 17), (24, 48)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("full", [True, False])
def test_is_four_copies_through_the_reference(
    backend: str, size: tuple[int, int], full: bool
) -> None:
    inputs = make(height=size[0], width=size[1], full=full)
    expected = run(inputs, four_copies, torch.float64)
    assert_close(run(inputs, scan_on(backend)), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_least_step(backend: str) -> None:
    inputs = make(height=11, width=19)
    expected = run(inputs, functools.partial(four_copies, least_delta=0.3), torch.float64)
    assert_close(run(inputs, scan_on(backend, 0.3)), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_derivative_is_refused(backend: str) -> None:
    inputs = make()
    out = cross_selective_scan(**inputs, delta_softplus=True, backend=backend)
    (first,) = torch.autograd.grad(out.square().sum(), inputs["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 16, 32, 40])
def test_channels(backend: str, channels: int) -> None:
    inputs = make(channels=channels, states=4, batch=1)
    expected = run(inputs, four_copies, torch.float64)
    assert_close(run(inputs, scan_on(backend)), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tall_picture_spans_many_chunks(backend: str) -> None:
    inputs = make(height=70, width=19, channels=17, states=2, batch=1)
    expected = run(inputs, four_copies, torch.float64)
    assert_close(run(inputs, scan_on(backend)), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16(backend: str) -> None:
    inputs = make(height=20, width=18, dtype=torch.bfloat16)
    expected = run(inputs, four_copies, torch.float64)
    actual = run(inputs, scan_on(backend))
    assert actual[0].dtype == torch.bfloat16
    assert_close(actual, expected)


@needs_cpu_kernel
@pytest.mark.parametrize("layout", ["channels last", "transposed", "cut out"])
def test_reads_the_picture_where_it_lies(layout: str) -> None:
    inputs = make(height=18, width=20, channels=32)
    x = inputs["x"].detach()
    strange = {
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "cut out": torch.nn.functional.pad(x, (3, 4, 1, 2))[..., 1:-2, 3:-4],
    }[layout]
    assert strange.stride() != x.stride()
    assert torch.equal(strange, x)
    want = run(inputs, scan_on("cpu"))
    got = run(inputs | {"x": strange}, scan_on("cpu"))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    out = cross_selective_scan(**(inputs | {"x": strange}), backend="cpu")
    if layout == "channels last":
        assert out.is_contiguous(memory_format=torch.channels_last)


@needs_cpu_kernel
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_no_copy_of_the_picture_for_a_direction(layout: torch.memory_format) -> None:
    inputs = make(batch=1, channels=512, height=96, width=96, states=1)
    inputs["x"] = inputs["x"].detach().contiguous(memory_format=layout).requires_grad_()

    def scan() -> None:
        out = scan_on("cpu")(**inputs)
        torch.autograd.grad(out, inputs["x"], torch.ones(()).expand_as(out))

    scan()
    before = peak_memory(reset=True)
    scan()
    one = 4 * inputs["x"].numel()  # 18.9 MB
    # out, dx and ddelta, which is four times as large; a copy for each direction would be 8 more
    assert peak_memory() - before < 6.9 * one


@needs_cpu_kernel
def test_the_same_bytes_with_one_thread_and_with_two() -> None:
    inputs = make(height=32, width=40, channels=64, batch=1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first, again = run(inputs, scan_on("cpu")), run(inputs, scan_on("cpu"))
        torch.set_num_threads(1)
        alone = run(inputs, scan_on("cpu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(first[0], alone[0])


@needs_cpu_kernel
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_passes_opcheck(full: bool, layout: torch.memory_format) -> None:
    operator = torch.ops.clipmamba.cross_selective_scan.default
    inputs = make(height=3, width=4, channels=5, full=full)
    x = inputs["x"].detach().contiguous(memory_format=layout).requires_grad_()
    delta = inputs["delta"].detach().flatten(1, 2).requires_grad_()
    given = ScanInputs(x, delta, delta_bias=inputs["delta_bias"], delta_softplus=True,
                       least_delta=0.1, **{name: inputs[name] for name in "ABCD"})  # fmt: skip
    torch.library.opcheck(operator, (*given, True, "cpu"))


def test_bad_input_is_named() -> None:
    inputs = {name: t.detach() for name, t in make().items()}
    with pytest.raises(InputError, match="needs x"):
        cross_selective_scan(**(inputs | {"x": inputs["x"][0]}))
    with pytest.raises(InputError, match="delta is"):
        cross_selective_scan(**(inputs | {"delta": inputs["delta"][:, :3]}))
    with pytest.raises(InputError, match="cross_selective_scan: C is"):
        cross_selective_scan(**(inputs | {"C": inputs["C"][..., :-1]}))
    for step in (float("nan"), float("inf"), -0.1):
        with pytest.raises(InputError, match="least_delta must be finite and at least 0"):
            cross_selective_scan(**inputs, least_delta=step)
    with pytest.raises(BackendError, match="mamba_ssm"):
        cross_selective_scan(**inputs, backend="mamba_ssm")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_torch_compile_sees_through_with_gradients(backend: str, compiler: str) -> None:
    inputs = make(height=6, width=9)

    def loss(given: Inputs) -> Tensor:
        return cross_selective_scan(**given, delta_softplus=True, backend=backend).square().sum()

    compiled = torch.compile(loss, backend=compiler, fullgraph=True)
    grads = [torch.autograd.grad(f(inputs), list(inputs.values())) for f in (loss, compiled)]
    for eager, traced in zip(*grads, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_export_keeps_height_and_width_free(backend: str) -> None:
    class Scan(torch.nn.Module):
        def forward(self, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
            height, width = x.shape[2:]
            delta, B, C = (t.flatten(3)[..., : height * width] for t in (delta, B, C))
            return cross_selective_scan(x, delta, A, B, C, delta_softplus=True, backend=backend)

    def tensors(height: int, width: int) -> tuple[Tensor, ...]:
        given = make(height=height, width=width, full=False)
        return tuple(
            t.detach().unflatten(3, (height, width)) if name in ("delta", "B", "C") else t.detach()
            for name, t in given.items()
            if t is not None
        )

    free = torch.export.Dim.DYNAMIC
    picture, sequence = {2: free, 3: free}, {3: free, 4: free}
    program = torch.export.export(
        Scan(), tensors(6, 9), dynamic_shapes=(picture, sequence, None, sequence, sequence)
    )
    for size in ((11, 5), (20, 31)):
        torch.testing.assert_close(program.module()(*tensors(*size)), Scan()(*tensors(*size)))
