"""The mamba-ssm package's CUDA kernels, where they are installed and really work."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .interface import Backend, ScanCall, ScanInputs, Verdict

_ELEMENTS = frozenset({torch.float32, torch.float16, torch.bfloat16})
_MOST_STATES = 256  # a limit of its kernel
_INSTALLED = "mamba_ssm" in sys.modules or importlib.util.find_spec("mamba_ssm") is not None


@functools.cache
def _probe() -> tuple[Callable[..., Any] | None, str]:
    """Its scan function after one tiny call, forward and backward, or why there is none.

    A wheel can be broken in two ways: the import dies for want of its extension, or, in newer
    versions, only the first call does.
    """
    if not torch.cuda.is_available():
        return None, "no CUDA device"
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return None, f"mamba_ssm does not import: {error}"
    try:
        u = torch.ones(1, 2, 8, device="cuda", requires_grad=True)
        A = -torch.ones(2, 4, device="cuda")
        B = torch.ones(1, 1, 4, 8, device="cuda")
        out = selective_scan_fn(u, u, A, B, B, return_last_state=True)[0]
        out.sum().backward()
    except (RuntimeError, AttributeError, TypeError, ImportError, NameError) as error:
        return None, f"mamba_ssm imports but its scan fails: {type(error).__name__}: {error}"
    return selective_scan_fn, "mamba-ssm's CUDA kernels"


def _available() -> Verdict:
    if not _INSTALLED:
        return False, "mamba-ssm is not installed"
    function, reason = _probe()
    return function is not None, reason


def _supports(call: ScanCall) -> Verdict:
    if call.device.type != "cuda":
        return False, f"the tensors are on {call.device}, not on a CUDA device"
    other = call.dtypes - _ELEMENTS
    if other:
        return False, f"takes float32, float16 and bfloat16, not {', '.join(map(str, other))}"
    if call.states > _MOST_STATES:
        return False, f"takes at most {_MOST_STATES} states, not {call.states}"
    if call.initial_state:
        return False, "starts from zeros only"
    if call.last_state_grad:
        return False, "gives no gradient through the last state"
    return True, "CUDA kernels"


def _scan(inputs: ScanInputs, needs_grad: bool) -> tuple[Tensor, Tensor]:
    function, reason = _probe()
    if function is None:
        raise RuntimeError(reason)
    u, delta, A, B, C, D, z, delta_bias, _, delta_softplus, least_delta = inputs
    if least_delta:  # its kernel has none: the whole step size is made here
        delta = delta.float() if delta_bias is None else delta.float() + delta_bias[:, None]
        delta = (F.softplus(delta) if delta_softplus else delta) + least_delta
        delta_bias, delta_softplus = None, False
    activations = [t for t in (u, delta, B, C, z) if t is not None]
    common = functools.reduce(torch.promote_types, (t.dtype for t in activations))
    out, last = function(
        u.to(common),
        delta.to(common),
        A.float(),
        B.to(common),
        C.to(common),
        None if D is None else D.float(),
        None if z is None else z.to(common),
        None if delta_bias is None else delta_bias.float(),
        delta_softplus,
        return_last_state=True,
    )
    return out.to(u.dtype), last


BACKEND = Backend("mamba_ssm", _available, _supports, _scan)
