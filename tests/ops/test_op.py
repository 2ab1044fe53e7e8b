"""The scan as one operator: for modes, profilers, vmap, torch.compile and export."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from test_selective_scan import BACKENDS, Inputs, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clipmamba.ops import selective_scan


class Names(TorchDispatchMode):
    """Collects the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [False, True])
def test_modes_and_profilers_see_one_operator(backend: str, training: bool) -> None:
    inputs = {k: v if v is None else v.requires_grad_(training) for k, v in make().items()}

    def scan() -> None:
        out = selective_scan(**inputs, backend=backend)
        if training:
            out.sum().backward()

    wanted = {"selective_scan", "selective_scan_backward"} if training else {"selective_scan"}
    with Names() as seen:
        scan()
    assert wanted <= {name.split(".")[0] for name in seen.names}
    with torch.profiler.profile() as profile:
        scan()
    assert {f"clipmamba::{name}" for name in wanted} <= {e.key for e in profile.key_averages()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_is_a_loop(backend: str) -> None:
    inputs = {k: v if v is None else v.detach() for k, v in make(batch=3).items()}
    options = {"delta_softplus": True, "backend": backend}
    whole = selective_scan(**inputs, **options)
    mapped = {k: inputs.pop(k).unsqueeze(1) for k in ("u", "delta", "B", "C", "z")}
    each = torch.func.vmap(lambda some: selective_scan(**some, **inputs, **options))(mapped)
    torch.testing.assert_close(each.squeeze(1), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_passes_opcheck(backend: str) -> None:
    full = make(channels=8, length=20, groups=2, start=True)
    torch.library.opcheck(
        torch.ops.clipmamba.selective_scan.default, (*full.values(), True, 0.1, True, backend)
    )
    bare = make(channels=8, length=20, groups=2, z=False, D=False, bias=False)
    torch.library.opcheck(
        torch.ops.clipmamba.selective_scan.default,
        (*bare.values(), None, False, 0.0, True, backend),
    )


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_torch_compile_sees_one_op(compiler: str) -> None:
    inputs = make()

    def loss(given: Inputs) -> Tensor:
        out, last = selective_scan(**given, delta_softplus=True, return_last_state=True)
        return out.square().sum() + last.sum()

    compiled = torch.compile(loss, backend=compiler, fullgraph=True)
    grads = [torch.autograd.grad(f(inputs), list(inputs.values())) for f in (loss, compiled)]
    for eager, traced in zip(*grads, strict=True):
        assert torch.equal(eager, traced)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("error:Dynamo detected a call")
def test_torch_compile_does_not_look_into_a_backward_between_graphs(backend: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.warn_once_cache.clear()
    inputs = {name: t.detach().requires_grad_() for name, t in make().items()}

    def step() -> Tensor:
        out = selective_scan(**inputs, delta_softplus=True, backend=backend)
        torch._dynamo.graph_break()
        out.square().sum().backward()
        return inputs["u"].grad.clone()

    expected = step()
    inputs["u"].grad = None
    assert torch.equal(torch.compile(step, backend="eager")(), expected)


def test_export_keeps_the_length_dynamic() -> None:
    class Scan(torch.nn.Module):
        def forward(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
            return selective_scan(u, delta, A, B, C, delta_softplus=True)

    def tensors(length: int) -> tuple[Tensor, ...]:
        inputs = make(length=length, z=False, D=False, bias=False)
        return tuple(t.detach() for t in inputs.values() if t is not None)

    length = torch.export.Dim("length", min=2)
    last = {2: length}
    program = torch.export.export(
        Scan(), tensors(20), dynamic_shapes=(last, last, None, last, last)
    )
    assert torch.equal(program.module()(*tensors(33)), Scan()(*tensors(33)))


def test_neither_import_nor_first_scan_imports_the_compiler() -> None:
    """It takes a second."""
    code = """
import sys, torch
from clipmamba.ops import cross_selective_scan, selective_scan
u, A, B = torch.ones(1, 8, 9), -torch.ones(8, 2), torch.ones(1, 2, 9)
selective_scan(u, u, A, B, B)
selective_scan(u.requires_grad_(), u, A, B, B).sum().backward()
x, delta = torch.ones(1, 2, 3, 3), torch.ones(1, 4, 2, 9)
cross_selective_scan(x, delta, A, torch.ones(1, 4, 2, 9), torch.ones(1, 4, 2, 9))
sys.exit('torch._dynamo' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
