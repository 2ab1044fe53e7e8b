"""``clipmamba env``: what to paste into a bug report."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

_DISTRIBUTIONS = (
    "torch",
    "open-clip-torch",
    "diffusers",
    "accelerate",
    "mamba-ssm",
    "triton",
    "pillow",
)


@click.command()
def env() -> None:
    """Show versions, hardware, scan backends and weights."""
    for line in _report():
        click.echo(line)


def _report() -> Iterator[str]:
    import torch

    import clipmamba
    from clipmamba.ops import backend_table

    yield _row("clipmamba", clipmamba.__version__)
    yield _row("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    for name in _DISTRIBUTIONS:
        yield _row(name, _version(name))
    isa = torch.backends.cpu.get_cpu_capability()
    yield _row("cpu", f"{platform.machine()}, {isa}, {torch.get_num_threads()} threads")
    yield _row("gpu", _gpu())

    yield ""
    yield "scan backends (auto picks the first that supports the call)"
    for backend in backend_table():
        state = "available" if backend.available else "not available"
        yield "  " + _row(backend.name, f"{state}: {backend.reason}" if backend.reason else state)

    yield ""
    yield "weights"
    root = Path(clipmamba.__file__).parent / "weights"
    files = sorted(root.glob("*/*.safetensors"))
    for file in files:
        name = file.relative_to(root).as_posix()
        size = file.stat().st_size / 1e6
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        yield f"  {name:<52} {size:8.1f} MB  sha256 {digest}"
    if not files:
        yield "  none: this installation is incomplete, reinstall clipmamba"


def _row(name: str, value: str) -> str:
    return f"{name:<16} {value}"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return f"{', '.join(names)} (CUDA {torch.version.cuda})"
    if torch.backends.mps.is_available():
        return "Apple (mps)"
    return "none"
