"""Other packages' Mamba on this scan: equal to their own slow paths, and undone afterwards."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from clipmamba.errors import BackendError, InputError
from clipmamba.ops.selective_scan.interop import compat

HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
needs_transformers = pytest.mark.skipif(not HAS_TRANSFORMERS, reason="transformers not installed")


def assert_same(actual: Tensor, truth: Tensor, tolerance: float) -> None:
    assert actual.shape == truth.shape
    error = (actual - truth).square().mean().sqrt()
    assert error <= tolerance * truth.square().mean().sqrt()


def run(model: nn.Module, value: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The result and every parameter's gradient."""
    result = model(value)
    out = getattr(result, "last_hidden_state", result)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    grads = torch.autograd.grad((out * weight).sum(), list(model.parameters()))
    return out.detach(), list(grads)


def assert_equal_runs(one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> None:
    assert_same(one[0], other[0], 1e-5)
    for gradient, truth in zip(one[1], other[1], strict=True):
        assert_same(gradient, truth, 1e-4)


# ---- transformers ------------------------------------------------------------------------------


@pytest.fixture(params=["mamba", "falcon_mamba"])
def neighbour(request: pytest.FixtureRequest) -> SimpleNamespace:
    """A tiny model of transformers, some words, and the module that holds its scan."""
    transformers = pytest.importorskip("transformers")
    name = {"mamba": "Mamba", "falcon_mamba": "FalconMamba"}[request.param]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=50, hidden_size=32, state_size=8, num_hidden_layers=2, time_step_rank=4
    )
    torch.manual_seed(0)
    module = importlib.import_module(
        f"transformers.models.{request.param}.modeling_{request.param}"
    )
    words = torch.randint(0, 50, (2, 37))
    return SimpleNamespace(
        config=config, words=words, module=module,
        model=getattr(transformers, f"{name}Model")(config),
        causal=getattr(transformers, f"{name}ForCausalLM"),
    )  # fmt: skip


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the sequences that went through our scan."""
    lengths: list[int] = []
    real = compat.selective_scan

    def counted(u: Tensor, *args: object) -> object:
        lengths.append(u.shape[-1])
        return real(u, *args)

    monkeypatch.setattr(compat, "selective_scan", counted)
    return lengths


@pytest.mark.parametrize("training", [True, False])
def test_transformers_models_give_what_they_gave(neighbour, scans, training):
    model = neighbour.model.train(training)
    before = run(model, neighbour.words)
    assert scans == []
    with compat.enable("transformers"):
        inside = run(model, neighbour.words)
    assert scans == [37, 37]
    assert_equal_runs(inside, before)
    after = run(model, neighbour.words)
    assert len(scans) == 2
    assert torch.equal(after[0], before[0])


def test_transformers_write_the_same_text(neighbour, scans):
    model = neighbour.causal(neighbour.config).eval()
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    before = model.generate(neighbour.words[:1], **options)
    with compat.enable("transformers"):
        assert torch.equal(model.generate(neighbour.words[:1], **options), before)
    assert 37 in scans  # the words given; the new ones are single steps


def test_other_devices_go_where_they_went(neighbour):
    with compat.enable("transformers"):
        scan = neighbour.module.mamba_selective_scan
        u = torch.empty(1, 4, 6, device="meta")
        A, B = torch.empty(4, 2, device="meta"), torch.empty(1, 2, 6, device="meta")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compat, "_transformers_scan", None)  # would fail if called
            assert scan(u, u, A, B, B).shape == (1, 4, 6)


@needs_transformers
def test_enabling_twice_is_enabling_once():
    module = importlib.import_module("transformers.models.mamba.modeling_mamba")
    names = ("mamba_selective_scan", "mamba_inner_fn", "mamba_selective_state_update")
    before = [getattr(module, name) for name in names]
    outer = compat.enable("transformers")
    during = [getattr(module, name) for name in names]
    with compat.enable("transformers"):
        assert [getattr(module, name) for name in names] == during
    assert [getattr(module, name) for name in names] == during
    outer.close()
    outer.close()
    assert [getattr(module, name) for name in names] == before


@needs_transformers
def test_packed_sequences_are_refused_as_before(neighbour):
    u, A, B = torch.ones(1, 4, 6), -torch.ones(4, 2), torch.ones(1, 2, 6)
    with compat.enable("transformers"), pytest.raises(InputError, match="packed"):
        neighbour.module.mamba_selective_scan(u, u, A, B, B, seq_idx=torch.zeros(1, 6))


@needs_transformers
def test_another_version_is_named_and_nothing_is_replaced(monkeypatch):
    mamba = importlib.import_module("transformers.models.mamba.modeling_mamba")
    falcon = importlib.import_module("transformers.models.falcon_mamba.modeling_falcon_mamba")
    before = mamba.mamba_selective_scan
    monkeypatch.delattr(falcon, "mamba_selective_scan")
    with pytest.raises(BackendError, match=r"transformers can't be patched.*mamba_selective_scan"):
        compat.enable("transformers")
    assert mamba.mamba_selective_scan is before


def test_what_is_not_there_is_said(monkeypatch):
    with pytest.raises(InputError, match=r"mamba_ssm.*not 'vmamba'"):
        compat.enable("vmamba")
    monkeypatch.setattr(compat, "_installed", lambda name: False)
    with pytest.raises(BackendError, match="pip install mamba-ssm"):
        compat.enable("mamba_ssm")
    with pytest.raises(BackendError, match="none of"):
        compat.enable()


def test_importing_ops_touches_nobody():
    code = (
        "import sys, clipmamba.ops, clipmamba.ops.compat; "
        "print({'transformers', 'mamba_ssm', 'selective_scan_cuda'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- mamba-ssm: the calling convention of its extension, then the package itself ---------------


class ThroughTheExtension(torch.autograd.Function):
    """Calls `fwd` and `bwd` in the order of arguments and results that mamba-ssm 2.3 has."""

    @staticmethod
    def forward(ctx, extension, u, delta, A, B, C, D, z, bias):
        out, x, *rest = extension.fwd(u, delta, A, B, C, D, z, bias, True)
        ctx.extension = extension
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, x, out)
        return (rest[0] if z is not None else out), x[:, :, -1, 1::2]

    @staticmethod
    def backward(ctx, dout, _):
        *tensors, x, out = ctx.saved_tensors
        found = ctx.extension.bwd(*tensors, dout, x, out, None, True, False)
        du, ddelta, dA, dB, dC, dD, dbias, *rest = found
        assert len(rest) == (tensors[6] is not None)
        return (
            None, du, ddelta, dA, dB, dC, dD if tensors[5] is not None else None,
            rest[0] if rest else None, dbias if tensors[7] is not None else None,
        )  # fmt: skip


def arguments(length: int, groups: int, full: bool) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    u, delta, z = (normal(2, 6, length) for _ in range(3))
    B, C = normal(2, groups, 3, length), normal(2, groups, 3, length)
    A, D, bias = -normal(6, 3).exp(), normal(6), normal(6) - 2
    tensors = [u, delta, A, B, C, *((D, z, bias) if full else (None, None, None))]
    return [None if t is None else t.requires_grad_() for t in tensors]


@pytest.mark.parametrize("length", [1, 40, 256, 257, 600])
@pytest.mark.parametrize(("groups", "full"), [(1, True), (2, False), (3, True)])
def test_the_extension_computes_what_mamba_ssm_asks_of_it(length, groups, full):
    from clipmamba.ops import selective_scan

    given = arguments(length, groups, full)
    leaves = [t for t in given if t is not None]
    out, last = ThroughTheExtension.apply(compat._Extension(None), *given)
    truth, last_truth = selective_scan(
        *given, delta_softplus=True, return_last_state=True, backend="reference"
    )
    assert_same(out, truth, 1e-5)
    assert_same(last, last_truth, 1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    grads = [torch.autograd.grad(value, leaves, weight) for value in (out, truth)]
    for gradient, other in zip(*grads, strict=True):
        assert_same(gradient, other, 1e-4)


def test_the_extension_fills_a_given_dz_and_gives_the_output_again():
    given = [None if t is None else t.detach() for t in arguments(300, 1, True)]
    extension = compat._Extension(None)
    out, x, gated = extension.fwd(*given, True)
    dz = torch.full_like(gated, torch.nan)
    *_, found, again = extension.bwd(*given, torch.ones_like(gated), x, out, dz, True, True)
    assert found is dz
    assert dz.isfinite().all()
    assert torch.equal(again, gated)


def test_the_extension_leaves_other_devices_to_the_original():
    calls = []
    original = SimpleNamespace(
        fwd=lambda *given: calls.append(("fwd", len(given))),
        bwd=lambda *given: calls.append(("bwd", len(given))),
        version="theirs",
    )
    u = torch.empty(1, 1, 1, device="meta")
    extension = compat._Extension(original)
    extension.fwd(u, *range(8))
    extension.bwd(u, *range(13))
    assert calls == [("fwd", 9), ("bwd", 14)]
    assert extension.version == "theirs"


REAL = """
import sys, torch
from clipmamba.ops import compat
with compat.enable("mamba_ssm"):
    from mamba_ssm import Mamba
    from mamba_ssm.modules import mamba_simple
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn, selective_scan_ref
    from mamba_ssm.utils.generation import InferenceParams
    torch.manual_seed(0)
    block, x = Mamba(16, layer_idx=0), torch.randn(2, 300, 16)

    def run():
        out = block(x)
        return [out, *torch.autograd.grad(out.square().sum(), list(block.parameters()))]

    ours = run()
    with torch.no_grad():
        params = InferenceParams(max_seqlen=301, max_batch_size=2)
        start = block(x[:, :-1], inference_params=params)
        params.seqlen_offset = 299
        step = block(x[:, -1:], inference_params=params)
    assert torch.allclose(step, ours[0][:, -1:], atol=1e-5)
mamba_simple.selective_scan_fn = selective_scan_ref
theirs = run()
mamba_simple.selective_scan_fn = selective_scan_fn
for number, (one, other) in enumerate(zip(ours, theirs)):
    error = (one - other).square().mean().sqrt() / other.square().mean().sqrt()
    print(f"{error:.1e}")
    assert error <= (1e-4 if number else 1e-5)
assert "selective_scan_cuda" not in sys.modules or torch.cuda.is_available()
try:
    block(x)
except RuntimeError as error:
    assert "without its CUDA extension" in str(error)
else:
    assert torch.cuda.is_available()
with compat.enable("mamba_ssm"):
    assert torch.equal(block(x), ours[0])
"""


@pytest.mark.skipif(
    importlib.util.find_spec("mamba_ssm") is None, reason="mamba-ssm is not installed"
)
def test_an_unmodified_mamba_block_of_the_real_package():
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
