"""Run other packages' Mamba on this package's scan on the CPU, where they have none of their own.

    from clipmamba.ops import compat

    with compat.enable():                     # or compat.enable(), for the rest of the process
        mamba_ssm.Mamba(64)(hidden_states)
        MambaModel(config)(input_ids)

Nothing is patched before `enable` is called. Tensors on other devices are handled as before.
Leaving the block, or calling `.close()` on the result of `enable`, restores everything.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from clipmamba.errors import BackendError, InputError

from ..interface import TENSORS, ScanInputs, check_inputs
from ..op import KERNELS, run_backward, run_forward
from ..sequence import selective_scan, selective_scan_step

__all__ = ["enable"]

_LOCK = threading.Lock()
_EXTENSION = "selective_scan_cuda"  # mamba-ssm's compiled module


def enable(*packages: str) -> ExitStack:
    """Let unmodified Mamba blocks of other packages run on this scan, on the CPU only.

    The following names are replaced. The packages look them up at every call, so existing models
    are affected too:

    - `mamba_ssm`: `selective_scan_cuda` in `mamba_ssm.ops.selective_scan_interface` (by an object
      with the extension's `fwd` and `bwd`) and `selective_state_update` in
      `mamba_ssm.modules.mamba_simple`. If the extension is not installed, an empty module of its
      name lets `import mamba_ssm` succeed.
    - `transformers`: `mamba_selective_scan` in its Mamba and FalconMamba modules. Also
      `mamba_inner_fn` and `mamba_selective_state_update`, which it takes from an importable
      mamba_ssm whatever the device; on the CPU they fall back to its own torch code.

    Calling it again has no effect. Gradients work as with those packages' own code.

    Args:
        packages: "mamba_ssm", "transformers" or both; by default those that are installed.

    Returns:
        A context manager; its end, or its `close()`, undoes what this call replaced.

    Raises:
        InputError: a package is unknown.
        BackendError: a package is not installed, can't be imported, or its version has its scan
            elsewhere. Nothing is replaced then.
    """
    for name in packages:
        if name not in _PACKAGES:
            raise InputError(f"compat.enable takes {' and '.join(_PACKAGES)}, not {name!r}")
    wanted = [name for name in _PACKAGES if (name in packages if packages else _installed(name))]
    if not wanted:
        raise BackendError(f"none of {', '.join(_PACKAGES)} is installed; pip install one of them")
    with _LOCK, ExitStack() as done:
        for name in wanted:
            if not _installed(name):
                raise BackendError(f"{name} is not installed; pip install {name.replace('_', '-')}")
            try:
                _PACKAGES[name](done)
            except (ImportError, AttributeError) as error:
                raise BackendError(
                    f"this {name} can't be patched: {error} (it must import, and have its scan "
                    "where mamba-ssm 2.3 or transformers 5 have it)"
                ) from error
        return done.pop_all()


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _replace(done: ExitStack, module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Replace an attribute by `make(original)`, once, until `done` ends."""
    original = getattr(module, name)
    if not getattr(original, "is_clipmamba", False):
        new = make(original)
        new.is_clipmamba = True
        setattr(module, name, new)
        done.callback(setattr, module, name, original)


def _on_cpu(ours: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a wrapper that calls `ours` for CPU tensors and the original for all others."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def choose(first: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (ours if first.device.type == "cpu" else original)(first, *args, **kwargs)

        return choose

    return make


# ---- mamba-ssm ---------------------------------------------------------------------------------


class _Extension:
    """mamba-ssm's compiled module, extended to the CPU."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def fwd(self, u: Tensor, *rest: Any) -> list[Tensor]:
        """Run the extension's `fwd`, or `_forward` for `u` on the CPU."""
        on_cpu = u.device.type == "cpu"
        found: list[Tensor] = (_forward if on_cpu else self.original.fwd)(u, *rest)
        return found

    def bwd(self, u: Tensor, *rest: Any) -> list[Tensor]:
        """Run the extension's `bwd`, or `_backward` for `u` on the CPU."""
        on_cpu = u.device.type == "cpu"
        found: list[Tensor] = (_backward if on_cpu else self.original.bwd)(u, *rest)
        return found


def _forward(*given: Any) -> list[Tensor]:
    """Emulate the extension's `fwd` on (u, delta, A, B, C, D, z, delta_bias, delta_softplus).

    Returns:
        out (B, D, L) and x (B, D, chunks, 2 N), whose odd columns hold the state after each chunk.
        With a gate, out is an empty tensor, since only the extension's own `bwd` needs it, and a
        third tensor is the gated output.
    """
    inputs = _inputs(given)
    out, last, starts = run_forward(_kernel(inputs), inputs, save_states=True)
    ends = torch.cat([starts[:, 1:].permute(0, 3, 1, 2), last[:, :, None]], dim=2)
    x = ends.repeat_interleave(2, dim=-1)
    return [out, x] if inputs.z is None else [out.new_empty(0), x, out]


def _backward(*given: Any) -> list[Tensor]:
    """Emulate `bwd` on `fwd`'s tensors, dout, x, out, dz, softplus, and whether out_z is needed.

    Returns:
        du, ddelta, dA, dB, dC, dD, ddelta_bias (empty for an absent input), with a gate dz, and
        the gated output if requested.
    """
    *tensors, dout, x, _, dz, delta_softplus, with_output = given
    inputs = _inputs((*tensors, delta_softplus))
    ends = x[..., 1::2].permute(0, 2, 3, 1)
    starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], dim=1)
    kernel = _kernel(inputs)
    grads = dict(zip(TENSORS, run_backward(kernel, dout, None, starts, inputs), strict=True))
    dgate = grads["z"]
    found = [grads[name] for name in ("u", "delta", "A", "B", "C", "D", "delta_bias")]
    if dgate is not None:
        found.append(dgate if dz is None else dz.copy_(dgate))
        if with_output:
            found.append(run_forward(kernel, inputs, save_states=False)[0])
    return [dout.new_empty(0) if t is None else t for t in found]


def _inputs(given: tuple[Any, ...]) -> ScanInputs:
    *tensors, delta_softplus = given
    named = dict(zip(TENSORS, tensors, strict=False))  # all but an initial state
    inputs = ScanInputs(**named, delta_softplus=delta_softplus)
    check_inputs(inputs, "mamba_ssm on the CPU")
    return inputs


def _kernel(inputs: ScanInputs) -> str:
    """Choose the first kernel that supports the inputs."""
    call = inputs.call(last_state=False)
    fits = KERNELS["cpu"].available()[0] and KERNELS["cpu"].supports(call)[0]
    return "cpu" if fits else "torch"


def _state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Emulate mamba-ssm's `selective_state_update`: one step that updates the state in place."""
    out, after = selective_scan_step(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    state.copy_(after)
    return out


def _absent(*_: Any) -> Any:
    raise RuntimeError("mamba-ssm is installed without its CUDA extension; only the CPU scan runs")


def _enable_mamba_ssm(done: ExitStack) -> None:
    try:
        importlib.import_module(_EXTENSION)
    except ImportError:
        empty = ModuleType(_EXTENSION, "Replaces mamba-ssm's missing CUDA extension.")
        empty.fwd = empty.bwd = _absent  # type: ignore[attr-defined]
        sys.modules[_EXTENSION] = empty
        done.callback(sys.modules.pop, _EXTENSION, None)
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    _replace(done, interface, _EXTENSION, _Extension)
    block = importlib.import_module("mamba_ssm.modules.mamba_simple")
    if block.selective_state_update is not None:  # with Triton only
        _replace(done, block, "selective_state_update", _on_cpu(_state_update))


# ---- transformers ------------------------------------------------------------------------------


def _transformers_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **rest: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Emulate transformers' `mamba_selective_scan`, without its slow path."""
    if any(rest.get(name) is not None for name in ("seq_idx", "cu_seqlens")):
        raise InputError("this scan does not support packed sequences; pad them instead")
    return selective_scan(
        hidden_states, dt, A, B, C, D, z, delta_bias, delta_softplus, return_last_state
    )


def _own_torch_code(original: Any) -> Any:
    """Use transformers' torch code on the CPU for a function that may come from mamba_ssm."""
    return _on_cpu(original.__wrapped__)(original)


def _enable_transformers(done: ExitStack) -> None:
    for model in ("mamba", "falcon_mamba"):
        module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
        _replace(done, module, "mamba_selective_scan", _on_cpu(_transformers_scan))
        for name in ("mamba_inner_fn", "mamba_selective_state_update"):
            _replace(done, module, name, _own_torch_code)


_PACKAGES: dict[str, Callable[[ExitStack], None]] = {
    # First, or it would take CUDA-only functions from mamba_ssm as soon as that imports.
    "transformers": _enable_transformers,
    "mamba_ssm": _enable_mamba_ssm,
}
