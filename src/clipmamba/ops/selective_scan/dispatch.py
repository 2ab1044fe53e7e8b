"""Selection of the backend for a call."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from clipmamba.errors import BackendError, InputError

from .backends import cpu, mamba_ssm, reference, triton
from .backends import torch as plain
from .interface import Backend, Kernel, ScanCall
from .op import picture_scan, sequence_scan

ENVIRONMENT = "CLIPMAMBA_BACKEND"


def _of_kernel(name: str, kernel: Kernel, pictures: bool) -> Backend:
    return Backend(
        name,
        kernel.available,
        kernel.supports,
        sequence_scan(name),
        picture_scan(name) if pictures else None,
    )


BACKENDS = {
    backend.name: backend
    for backend in (
        mamba_ssm.BACKEND,
        _of_kernel("cpu", cpu, pictures=True),
        _of_kernel("triton", triton, pictures=True),
        _of_kernel("torch", plain, pictures=False),
        reference.BACKEND,
    )
}
"""All backends, best first: `auto` picks the first that supports the call."""

_AUTO = "auto"
_chosen: ContextVar[str | None] = ContextVar("clipmamba_scan_backend", default=None)


@dataclass(frozen=True)
class BackendStatus:
    """A row of the backend table.

    Attributes:
        name: its name, for `backend=` and CLIPMAMBA_BACKEND.
        available: whether it can run on this machine.
        reason: why, or why not.
    """

    name: str
    available: bool
    reason: str


def backend_table() -> list[BackendStatus]:
    """List all scan backends in the order in which `auto` tries them, with the reason."""
    return [BackendStatus(b.name, *b.available()) for b in BACKENDS.values()]


@contextlib.contextmanager
def scan_backend(name: str) -> Iterator[None]:
    """Run every scan inside the block with this backend, unless a call names its own.

    Args:
        name: "auto" or a backend's name. It overrides the variable CLIPMAMBA_BACKEND.

    Raises:
        InputError: no backend has this name.
    """
    _check_name(name, "scan_backend")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _check_name(name: str, where: str) -> None:
    if name == _AUTO or name in BACKENDS:
        return
    names = [_AUTO, *BACKENDS]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
    raise InputError(f"{where}: there is no scan backend {name!r}; {hint}")


def choose(call: ScanCall, name: str = _AUTO) -> Backend:
    """Choose the backend for a call.

    Args:
        call: the call.
        name: "auto" or a backend's name. "auto" uses the choice of `scan_backend`, else of the
            variable CLIPMAMBA_BACKEND, else the first backend that supports the call.

    Raises:
        InputError: no backend has this name.
        BackendError: the named backend can't run the call; the message has the reason.
    """
    where = "backend"
    if name == _AUTO:
        chosen = _chosen.get()
        if chosen is None:
            chosen, where = os.environ.get(ENVIRONMENT) or _AUTO, ENVIRONMENT
        name = chosen
    _check_name(name, where)
    if name == _AUTO:
        # supports() first, since it is cheap, while a probe may import a package.
        return next(b for b in BACKENDS.values() if b.supports(call)[0] and b.available()[0])
    backend = BACKENDS[name]
    for verdict in (backend.available, lambda: backend.supports(call)):
        possible, reason = verdict()
        if not possible:
            raise BackendError(
                f"the scan backend {name!r} can't run this call: {reason} (use backend='auto')"
            )
    return backend


def ordinary_backend(device: torch.device) -> str:
    """Name the backend that runs an ordinary call on this device: float32, without gradients.

    Raises:
        BackendError: CLIPMAMBA_BACKEND names one that can't run it.
    """
    call = ScanCall(
        device=device,
        dtypes=frozenset({torch.float32}),
        batch=1,
        channels=64,
        states=8,
        groups=1,
        length=1024,
        needs_grad=False,
        last_state_grad=False,
        initial_state=False,
    )
    return choose(call).name
