"""Look up devices by name; torch is imported only to resolve one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


def check_device(name: str | torch.device) -> None:
    """Refuse an invalid device name, without importing torch.

    Raises:
        InputError: the name is not auto, cpu, cuda, cuda:N, xpu, xpu:N or mps.
    """
    if not _DEVICE.fullmatch(str(name)):
        raise InputError(f"unknown device {str(name)!r}; use auto, cpu, cuda, cuda:1, xpu or mps")


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Resolve a device name to a device of this machine.

    Args:
        name: a device name; "auto" means CUDA if available, else the CPU.

    Returns:
        A device that exists.

    Raises:
        InputError: the name is invalid, or this machine has no such device.
    """
    check_device(name)
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type != "cpu":
        backend = getattr(torch, device.type)
        count = backend.device_count() if backend.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"this machine has no device {str(name)!r}; use cpu or auto")
    return device
