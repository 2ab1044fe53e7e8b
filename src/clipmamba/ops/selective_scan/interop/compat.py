"""Other packages' Mamba on this package's scan, where they have none of their own: on the CPU.

    from clipmamba.ops import compat

    with compat.enable():                     # or compat.enable(), for the rest of the process
        mamba_ssm.Mamba(64)(hidden_states)
        MambaModel(config)(input_ids)

Nothing is touched before `enable` is called, tensors on other devices go where they always went,
and leaving the block, or `.close()` on what `enable` returned, puts everything back.
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

    What is replaced, all of it looked up by those packages at every call, so that models which are
    already built follow too:

    - `mamba_ssm`: the name `selective_scan_cuda` in `mamba_ssm.ops.selective_scan_interface` (an
      object with the extension's `fwd` and `bwd`) and `selective_state_update` in
      `mamba_ssm.modules.mamba_simple`. Where the extension is not installed an empty module of its
      name lets `import mamba_ssm` succeed.
    - `transformers`: `mamba_selective_scan` in its modules of Mamba and FalconMamba; and there
      `mamba_inner_fn` and `mamba_selective_state_update`, which it takes from an importable
      mamba_ssm without asking for the device, go back to its own torch code on the CPU.

    Calling it again changes nothing. Gradients flow as they do through those packages' own code.

    Args:
        packages: "mamba_ssm", "transformers" or both; those that are installed where none is named.

    Returns:
        A context manager; its end, or its `close()`, undoes what this very call replaced.

    Raises:
        InputError: no such name.
        BackendError: a package is not installed, does not import, or is of a version that holds
            its scan elsewhere. Nothing is replaced then.
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
                    f"this {name} can't be helped: {error} (it must import, and hold its scan as "
                    "mamba-ssm 2.3 or transformers 5 do)"
                ) from error
        return done.pop_all()


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _replace(done: ExitStack, module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(what is there)` in its place, once, until `done` ends."""
    there = getattr(module, name)
    if not getattr(there, "is_clipmamba", False):
        new = make(there)
        new.is_clipmamba = True
        setattr(module, name, new)
        done.callback(setattr, module, name, there)


def _on_cpu(ours: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a function that takes `ours` for CPU tensors and what was there for all others."""

    def make(there: Any) -> Any:
        @functools.wraps(there)
        def choose(first: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (ours if first.device.type == "cpu" else there)(first, *args, **kwargs)

        return choose

    return make


# ---- mamba-ssm ---------------------------------------------------------------------------------


class _Extension:
    """mamba-ssm's compiled module, with a CPU."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def fwd(self, u: Tensor, *rest: Any) -> list[Tensor]:
        """As the extension's `fwd`, for `u` on the CPU; see `_forward`."""
        on_cpu = u.device.type == "cpu"
        found: list[Tensor] = (_forward if on_cpu else self.original.fwd)(u, *rest)
        return found

    def bwd(self, u: Tensor, *rest: Any) -> list[Tensor]:
        """As the extension's `bwd`, for `u` on the CPU; see `_backward`."""
        on_cpu = u.device.type == "cpu"
        found: list[Tensor] = (_backward if on_cpu else self.original.bwd)(u, *rest)
        return found


def _forward(*given: Any) -> list[Tensor]:
    """The extension's `fwd` on (u, delta, A, B, C, D, z, delta_bias, delta_softplus).

    Returns:
        out (B, D, L) and x (B, D, chunks, 2 N), whose odd columns hold the state after each chunk.
        With a gate out is an empty tensor, as only the extension's own `bwd` needs it, and a third
        tensor is the gated output.
    """
    inputs = _inputs(given)
    out, last, starts = run_forward(_kernel(inputs), inputs, save_states=True)
    ends = torch.cat([starts[:, 1:].permute(0, 3, 1, 2), last[:, :, None]], dim=2)
    x = ends.repeat_interleave(2, dim=-1)
    return [out, x] if inputs.z is None else [out.new_empty(0), x, out]


def _backward(*given: Any) -> list[Tensor]:
    """The extension's `bwd`: `fwd`'s tensors, then dout, x, out, dz, softplus, whether out_z too.

    Returns:
        du, ddelta, dA, dB, dC, dD, ddelta_bias (empty for an absent input), with a gate dz, and
        the gated output if asked for.
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
    """The first kernel that can."""
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
    """mamba-ssm's `selective_state_update`: one step that changes the state where it is."""
    out, after = selective_scan_step(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    state.copy_(after)
    return out


def _absent(*_: Any) -> Any:
    raise RuntimeError("mamba-ssm is installed without its CUDA extension: only the CPU scan runs")


def _enable_mamba_ssm(done: ExitStack) -> None:
    try:
        importlib.import_module(_EXTENSION)
    except ImportError:
        empty = ModuleType(_EXTENSION, "Stands for mamba-ssm's absent CUDA extension.")
        empty.fwd = empty.bwd = _absent  # type: ignore[attr-defined]
        sys.modules[_EXTENSION] = empty
        done.callback(sys.modules.pop, _EXTENSION, None)
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    _replace(done, interface, _EXTENSION, _Extension)
    block = importlib.import_module("mamba_ssm.modules.mamba_simple")
    if block.selective_state_update is not None:  # where Triton is
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
    """As transformers' `mamba_selective_scan`; its choice of a slow path does not matter here."""
    if any(rest.get(name) is not None for name in ("seq_idx", "cu_seqlens")):
        raise InputError("packed sequences can't be kept apart by this scan; pad them instead")
    return selective_scan(
        hidden_states, dt, A, B, C, D, z, delta_bias, delta_softplus, return_last_state
    )


def _own_torch_code(there: Any) -> Any:
    """The torch code behind a function that it may have taken from mamba_ssm."""
    return _on_cpu(there.__wrapped__)(there)


def _enable_transformers(done: ExitStack) -> None:
    for model in ("mamba", "falcon_mamba"):
        module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
        _replace(done, module, "mamba_selective_scan", _on_cpu(_transformers_scan))
        for name in ("mamba_inner_fn", "mamba_selective_state_update"):
            _replace(done, module, name, _own_torch_code)


_PACKAGES: dict[str, Callable[[ExitStack], None]] = {
    # First, or it would take from mamba_ssm, once that imports, what only runs on CUDA.
    "transformers": _enable_transformers,
    "mamba_ssm": _enable_mamba_ssm,
}
