"""The Triton kernels in Triton's interpreter on the CPU against the float64 reference.

`test_triton.py` runs this file in a process of its own: a kernel is made for the interpreter or for
a GPU when its module is imported. Empty tensors come filled with NaN here, so nothing that a kernel
leaves out goes unseen.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_cross_selective_scan import assert_close as assert_picture_close
from test_cross_selective_scan import four_copies, scan_on
from test_cross_selective_scan import make as make_picture
from test_cross_selective_scan import run as run_picture
from test_selective_scan import assert_close, make, relative_error, run
from torch import Tensor
from triton.runtime.interpreter import ReduceOps, ScanOps

from clipmamba.errors import BackendError
from clipmamba.ops import backend_table, selective_scan
from clipmamba.ops.selective_scan.backends import triton
from clipmamba.ops.selective_scan.backends.triton import launch
from clipmamba.ops.selective_scan.interface import ScanInputs

assert os.environ["TRITON_INTERPRET"] == "1", "test_triton.py starts this file"

SMALL = launch.Tiles(channels=4, steps=16, chunks=2, warps=1)
Choose = Callable[[launch.Tiles], None]


def states(operation: Any, inputs: Sequence[Any]) -> Iterator[list[np.ndarray]]:
    """Results of a scan after each step. Triton's own interpreter takes one element at a time."""
    rows = [np.moveaxis(t.handle.data, operation.axis, 0) for t in inputs]
    state: Any = ()
    for step in range(len(rows[0])):
        here = [operation.to_tensor(r[step], t.dtype) for r, t in zip(rows, inputs, strict=True)]
        state = operation.combine_fn.fn(*state, *here) if step else here
        state = state if isinstance(state, list | tuple) else [state]
        yield [value.handle.data for value in state]


def scan(self: ScanOps, inputs: Sequence[Any]) -> list[Any]:
    values = zip(*states(self, inputs), strict=True)
    stacked = [np.stack(value, self.axis) for value in values]
    return [self.to_tensor(value, t.dtype) for value, t in zip(stacked, inputs, strict=True)]


def reduce(self: ReduceOps, inputs: Sequence[Any]) -> list[Any]:
    *_, values = states(self, inputs)
    if self.keep_dims:
        values = [np.expand_dims(value, self.axis) for value in values]
    return [self.to_tensor(value, t.dtype) for value, t in zip(values, inputs, strict=True)]


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """torch fills memory with NaN before anyone writes to it."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Sets the sizes of the blocks, and makes the interpreter walk faster."""

    def choose(tiles: launch.Tiles) -> None:
        monkeypatch.setattr(ScanOps, "generic_scan", scan)
        monkeypatch.setattr(ReduceOps, "generic_reduce", reduce)
        for name in ("forward", "backward"):
            function = functools.partial(getattr(launch, name), tiles=tiles)
            monkeypatch.setattr(triton, name, function)

    return choose


@pytest.fixture(autouse=True)
def small(tiles: Choose) -> None:
    tiles(SMALL)


def assert_right(
    inputs: dict[str, Tensor | None], softplus: bool = True, least: float = 0.0
) -> None:
    expected = run(inputs, "reference", softplus=softplus, least=least, dtype=torch.float64)
    assert_close(run(inputs, "triton", softplus=softplus, least=least), expected)


def assert_picture_right(inputs: dict[str, Tensor | None], least: float = 0.0) -> None:
    copies = functools.partial(four_copies, least_delta=least)
    expected = run_picture(inputs, copies, torch.float64)
    assert_picture_close(run_picture(inputs, scan_on("triton", least)), expected)


def test_the_interpreters_own_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the blocks' real sizes."""
    monkeypatch.undo()
    assert ScanOps.generic_scan is not scan
    inputs = make(batch=1, channels=2, length=3, states=1)
    assert_right(inputs)


@pytest.mark.parametrize("length", [1, 2, 16, 17, 35])
def test_odd_lengths(length: int) -> None:
    assert_right(make(batch=1, channels=5, length=length, states=3, start=True))


@pytest.mark.parametrize(
    ("groups", "channels", "states"),
    [(1, 1, 1), (1, 7, 3), (1, 1, 16), (2, 2, 3), (2, 4, 16), (2, 10, 1)],
)
def test_groups_channels_and_states(groups: int, channels: int, states: int) -> None:
    assert_right(make(batch=1, channels=channels, groups=groups, states=states, length=17))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 8, 4), (8, 32, 1), (16, 64, 32)], ids=str)
def test_sizes_of_blocks_and_chunks(tiles: Choose, sizes: tuple[int, int, int]) -> None:
    channels, steps, chunks = sizes
    tiles(launch.Tiles(channels, steps, chunks, 1))
    length = 3 if steps == 1 else 29
    assert_right(make(batch=1, channels=3, length=length, states=2, start=True))


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("z", [True, False])
@pytest.mark.parametrize("D", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_optional_inputs(softplus: bool, z: bool, D: bool, bias: bool) -> None:
    start = softplus == D  # in half of the cases
    inputs = make(batch=1, channels=2, length=17, states=2, z=z, D=D, bias=bias, start=start)
    if bias and not softplus:  # a negative step would let the state explode
        inputs["delta_bias"] = inputs["delta_bias"].detach().abs()
    assert_right(inputs, softplus)


def test_a_least_step() -> None:
    assert_right(make(batch=1, channels=3, length=19, states=2, start=True), least=0.3)
    assert_picture_right(make_picture(batch=1, channels=3, height=5, width=7, states=2), least=0.3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    inputs = make(batch=1, channels=4, length=21, groups=2, dtype=dtype, start=True)
    actual = run(inputs, "triton")
    assert actual["out"].dtype == actual["du"].dtype == actual["dB"].dtype == dtype
    assert actual["last"].dtype == actual["dA"].dtype == torch.float32
    expected = run(inputs, "reference", dtype=torch.float64)
    for name, value in actual.items():
        assert relative_error(value, expected[name]) < (2e-3 if dtype == torch.float16 else 1e-2)


def test_every_tensor_may_have_its_own_type() -> None:
    inputs = make(batch=1, channels=4, length=20)
    inputs["u"], inputs["C"] = inputs["u"].bfloat16(), inputs["C"].half()
    inputs["D"] = inputs["D"].bfloat16()
    actual = run(inputs, "triton")
    for name, t in inputs.items():
        assert actual[f"d{name}"].dtype == t.dtype
    assert_close(actual, run(inputs, "reference", dtype=torch.float64))


def test_strides() -> None:
    inputs = make(batch=1, channels=4, groups=2, states=3, length=21)
    strided = {
        "u": inputs["u"].transpose(1, 2).contiguous().transpose(1, 2),  # channels last
        "delta": torch.cat([inputs["delta"]] * 2, dim=1)[:, :4],
        "z": torch.stack([inputs["z"]] * 2, dim=-1)[..., 0],  # no axis is dense
        "B": inputs["B"].permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0),
        "C": torch.cat([inputs["C"]] * 2, dim=2)[:, :, :3],
        "A": inputs["A"].T.contiguous().T,
    }
    expected = run(inputs, "triton")
    for name, value in run(inputs | strided, "triton").items():
        assert torch.equal(value, expected[name]), name


def test_the_same_bytes_for_each_batch_element() -> None:
    inputs = make(batch=2, channels=5, length=33)
    whole = selective_scan(**inputs, delta_softplus=True, backend="triton")
    one = {name: t if name in ("A", "D", "delta_bias") else t[1:] for name, t in inputs.items()}
    assert torch.equal(selective_scan(**one, delta_softplus=True, backend="triton"), whole[1:])


def test_extreme_steps() -> None:
    inputs = make(batch=1, length=60, channels=3)
    delta = torch.linspace(-200, 200, 60).repeat(1, 3, 1)
    inputs["delta"] = delta[..., torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    inputs["z"] = 100 * inputs["z"].detach()
    assert_right(inputs)


def test_small_steps_keep_their_digits() -> None:
    inputs = make(batch=1, length=40, channels=3)
    inputs["delta_bias"] = torch.full((3,), -12.0)  # softplus is about 6e-6
    assert_right(inputs)


def test_a_large_step_among_small_ones_takes_no_digits() -> None:
    """With softplus off, so that the steps are what is given."""
    inputs = make(batch=1, length=40, channels=3, bias=False, start=True)
    steps = torch.full((1, 3, 40), 1e-3)
    steps[:, :, 13], steps[:, 1, 14:30] = 1000.0, 10.0
    inputs["delta"], inputs["z"] = steps, None
    inputs["A"] = -torch.rand(3, 4, generator=torch.Generator().manual_seed(3)) - 0.1
    assert_nearly_exact(run(inputs, "triton", softplus=False), inputs)


def assert_nearly_exact(actual: dict[str, Tensor], inputs: dict[str, Tensor | None]) -> None:
    """An order closer than the tolerances of the house."""
    expected = run(inputs, "reference", softplus=False, dtype=torch.float64)
    for name, value in actual.items():
        assert relative_error(value, expected[name]) < 1e-6, name


def test_nan_stays_where_it_belongs() -> None:
    inputs = make(batch=2, channels=5, length=40)
    u = inputs["u"].detach().clone()
    u[1, 3, 10] = float("nan")
    out = selective_scan(**(inputs | {"u": u}), delta_softplus=True, backend="triton")
    expected = torch.zeros_like(out, dtype=torch.bool)
    expected[1, 3, 10:] = True
    assert torch.equal(out.isnan(), expected)


def test_a_long_memory_stays_exact(tiles: Choose) -> None:
    tiles(launch.Tiles(channels=4, steps=64, chunks=16, warps=1))
    inputs = make(batch=1, channels=2, length=1024, states=1)
    inputs["A"] = inputs["A"].detach() * 1e-3
    assert_right(inputs)


@pytest.mark.parametrize("size", [(1, 1), (1, 21), (21, 1), (4, 8), (5, 7)])
@pytest.mark.parametrize("full", [True, False])
def test_a_picture(size: tuple[int, int], full: bool) -> None:
    height, width = size
    assert_picture_right(make_picture(1, 5, height, width, 2, full=full))


@pytest.mark.parametrize(("channels", "states"), [(1, 1), (2, 16), (6, 1)])
def test_a_pictures_channels_and_states(channels: int, states: int) -> None:
    assert_picture_right(make_picture(1, channels, 3, 4, states))


@pytest.mark.parametrize("steps", [8, 64])
def test_a_pictures_chunks(tiles: Choose, steps: int) -> None:
    tiles(launch.Tiles(8, steps, 4, 1))
    assert_picture_right(make_picture(1, 2, 5, 5, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_picture_in_half_precision(dtype: torch.dtype) -> None:
    inputs = make_picture(1, 3, 5, 6, dtype=dtype)
    actual = run_picture(inputs, scan_on("triton"))
    assert actual[0].dtype == actual[1].dtype == dtype
    for value, truth in zip(actual, run_picture(inputs, four_copies, torch.float64), strict=True):
        assert relative_error(value, truth) < (2e-3 if dtype == torch.float16 else 1e-2)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "cut out"])
def test_reads_the_picture_where_it_lies(layout: str) -> None:
    inputs = make_picture(1, 4, 5, 6, 2)
    x = inputs["x"].detach()
    strange = {
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "cut out": torch.nn.functional.pad(x, (3, 4, 1, 2))[..., 1:-2, 3:-4],
    }[layout]
    assert strange.stride() != x.stride()
    want = run_picture(inputs, scan_on("triton"))
    got = run_picture(inputs | {"x": strange}, scan_on("triton"))
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))
    if layout == "channels last":
        out = scan_on("triton")(**(inputs | {"x": strange}))
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_passes_opcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "CHUNK", SMALL.steps)  # what the fake kernels go by
    inputs = make(batch=1, channels=2, length=5, states=1, groups=2, start=True)
    torch.library.opcheck(
        torch.ops.clipmamba.selective_scan.default, (*inputs.values(), True, 0.1, True, "triton")
    )
    inputs = make_picture(1, 1, 2, 3, 1)
    inputs["delta"] = inputs["delta"].detach().flatten(1, 2).requires_grad_()
    given = ScanInputs(inputs.pop("x"), **inputs, delta_softplus=True, least_delta=0.1)
    operator = torch.ops.clipmamba.cross_selective_scan.default
    torch.library.opcheck(operator, (*given, True, "triton"))


def test_torch_compile_sees_one_op() -> None:
    inputs = make(batch=1, channels=3, length=20, states=2)

    def loss(given: dict[str, Tensor | None]) -> Tensor:
        return selective_scan(**given, delta_softplus=True, backend="triton").square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    grads = [torch.autograd.grad(f(inputs), list(inputs.values())) for f in (loss, compiled)]
    for eager, traced in zip(*grads, strict=True):
        assert torch.equal(eager, traced)


def test_float64_is_declined_with_the_reason() -> None:
    status = {s.name: s for s in backend_table()}["triton"]
    assert status.available
    assert "interpreter" in status.reason
    with pytest.raises(BackendError, match="float32, not float64"):
        selective_scan(**make(dtype=torch.float64), backend="triton")
