"""The mamba-ssm package's CUDA kernels, if they are installed and work."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interface import Backend, ScanCall, ScanInputs, Verdict, ceil_div, decline
from .probe import Probe

_ELEMENTS = frozenset({torch.float32, torch.float16, torch.bfloat16})
# Limits of its kernels: states in shared memory, channels in a CUDA grid, 32-bit offsets.
_MOST_STATES = 256
_MOST_CHANNELS = 65535
_CHUNK = 2048  # steps per chunk, for which it saves 2 N numbers per channel
_INSTALLED = "mamba_ssm" in sys.modules or importlib.util.find_spec("mamba_ssm") is not None


def _try(device: torch.device) -> tuple[Callable[..., Any] | None, str]:
    """Return its scan function after a tiny forward and backward call, or None with the reason.

    A wheel can be broken in two ways: the import fails because its extension is missing, or, in
    newer versions, only the first call fails.
    """
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return None, f"mamba_ssm can't be imported: {error}"
    ones = functools.partial(torch.ones, device=device, dtype=torch.float32)
    try:
        u = ones(1, 2, 8, requires_grad=True)
        B = ones(1, 1, 4, 8)
        out = selective_scan_fn(u, u, -ones(2, 4), B, B, return_last_state=True)[0]
        out.sum().backward()
    except (RuntimeError, AttributeError, TypeError, ImportError, NameError) as error:
        return None, f"mamba_ssm imports but its scan fails: {type(error).__name__}: {error}"
    return selective_scan_fn, "mamba-ssm's CUDA kernels"


_probe = Probe(_try)


def _available() -> Verdict:
    if not _INSTALLED:
        return False, "mamba-ssm is not installed"
    function, reason = _probe()
    return function is not None, reason


def _supports(call: ScanCall) -> Verdict:
    if reason := decline(call, "cuda", _ELEMENTS):
        return False, reason
    if call.states > _MOST_STATES:
        return False, f"takes at most {_MOST_STATES} states, not {call.states}"
    if call.channels > _MOST_CHANNELS:
        return False, f"takes at most {_MOST_CHANNELS} channels, not {call.channels}"
    kept = call.batch * call.channels * ceil_div(call.length, _CHUNK) * 2 * call.states
    if max(kept, call.reach(0)) >= 2**31:
        return False, "takes fewer than 2^31 elements of a tensor"
    if call.initial_state:
        return False, "starts from zeros only"
    if call.last_state_grad:
        return False, "has no gradient through the last state"
    return True, "CUDA kernels"


def _scan(inputs: ScanInputs, needs_grad: bool) -> tuple[Tensor, Tensor]:
    function, reason = _probe()
    if function is None:
        raise RuntimeError(reason)
    plain = inputs.resolved()  # its extension reads raw memory
    delta, delta_bias, delta_softplus = plain.delta, plain.delta_bias, plain.delta_softplus
    if plain.least_delta:  # not supported by its kernel: compute the complete step size here
        delta = delta.float() if delta_bias is None else delta.float() + delta_bias[:, None]
        delta = (F.softplus(delta) if delta_softplus else delta) + plain.least_delta
        delta_bias, delta_softplus = None, False
    activations = [t for t in (plain.u, delta, plain.B, plain.C, plain.z) if t is not None]
    common = functools.reduce(torch.promote_types, (t.dtype for t in activations))
    out, last = function(
        plain.u.to(common),
        delta.to(common),
        plain.A.float(),
        plain.B.to(common),
        plain.C.to(common),
        None if plain.D is None else plain.D.float(),
        None if plain.z is None else plain.z.to(common),
        None if delta_bias is None else delta_bias.float(),
        delta_softplus,
        return_last_state=True,
    )
    if out.requires_grad:
        out.register_hook(Tensor.resolve_neg)
    return out.to(inputs.u.dtype), last


BACKEND = Backend("mamba_ssm", _available, _supports, _scan)
