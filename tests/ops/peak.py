"""How much memory this process has held."""

from __future__ import annotations

from pathlib import Path

import pytest


def peak_memory(reset: bool = False) -> int:
    """Most bytes that this process has held since the last reset; skips where Linux can't say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        pytest.skip(f"no peak memory: {error}")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
