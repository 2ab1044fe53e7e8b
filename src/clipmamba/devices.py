"""Devices by name; torch is imported only to look for one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clipmamba.errors import InputError

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


def check_device(name: str | torch.device) -> None:
    """Refuse a device name that no machine has; needs no torch.

    Raises:
        InputError: not one of auto, cpu, cuda, cuda:N, xpu, mps.
    """
    if not _DEVICE.fullmatch(str(name)):
        raise InputError(f"unknown device {str(name)!r}; use auto, cpu, cuda, cuda:1 or mps")


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Find the device of that name on this machine.

    Args:
        name: "auto" is CUDA if there is one, else the CPU.

    Returns:
        A device that exists.

    Raises:
        InputError: an unknown name, or a device that is not here.
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
            raise InputError(f"there is no device {str(name)!r} here; use cpu or auto")
    return device
