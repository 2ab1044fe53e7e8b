r"""Compile the Triton kernels without a GPU, and say what they cost.

    python scripts/compile_kernels.py               every kernel, every target: a Markdown table
    python scripts/compile_kernels.py --roofline    bytes moved and least time of some shapes

The kernels are compiled for the very arguments of a call: tensors on torch's meta device go through
`clipmamba.ops.selective_scan.triton.launch`, and each launch is recorded instead of run. The exit
status is 1 if a kernel spills or takes more than 128 registers a thread.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import triton
from torch import Tensor
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from clipmamba.ops.selective_scan.interface import ScanInputs
from clipmamba.ops.selective_scan.triton import launch

TARGETS = (80, 90, 100)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_REGISTERS = 128

POINTERS = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16"
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A recorded launch."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        """The kernel's name, with the way that it walks and the direction in time."""
        parts = [self.kernel.__name__]
        if (way := self.arguments.get("WAY")) is not None:
            parts.append(("sequence", "rows", "columns")[getattr(way, "value", way)])
        if "BACKWARD" in self.arguments:
            parts.append("backward" if self.arguments["BACKWARD"] else "forward")
        return ", ".join(parts)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def sequence_calls(
    batch: int, channels: int, steps: int, states: int, dtype: torch.dtype
) -> list[Call]:
    """Launches of a scan with every option, forth and back."""
    wide = meta(batch, channels, steps, dtype=dtype)
    rows = meta(batch, 1, states, steps, dtype=dtype)
    state = meta(batch, channels, states)
    row = meta(channels)
    inputs = ScanInputs(wide, wide, meta(channels, states), rows, rows, row, wide, row, state, True)
    calls: list[Call] = []

    def record(*call: Any) -> None:
        calls.append(Call(*call))

    _, _, saved = launch.forward(inputs, True, launch=record)
    launch.backward(wide, state, saved, inputs, launch=record)
    return calls


def picture_calls(
    batch: int, channels: int, height: int, width: int, states: int, dtype: torch.dtype
) -> list[Call]:
    """Launches of a picture's scan, forth and back."""
    steps = height * width
    x = meta(batch, channels, steps, dtype=dtype)
    delta = meta(batch, 4 * channels, steps, dtype=dtype)
    rows = meta(batch, 4, states, steps, dtype=dtype)
    row = meta(4 * channels)
    A = meta(4 * channels, states)
    inputs = ScanInputs(x, delta, A, rows, rows, row, None, row, None, True)
    calls: list[Call] = []

    def record(*call: Any) -> None:
        calls.append(Call(*call))

    _, saved = launch.cross_forward(inputs, height, width, True, launch=record)
    launch.cross_backward(x, saved, inputs, height, width, launch=record)
    return calls


def source(call: Call) -> ASTSource:
    """The kernel specialised as a launch with these arguments does it: ones and multiples of 16."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for index, parameter in enumerate(call.kernel.params):
        value = call.arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[parameter.name], aligned = POINTERS[value.dtype], True
        else:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            aligned = value % 16 == 0
        if aligned:
            attributes[(index,)] = [["tt.divisibility", 16]]
    return ASTSource(call.kernel, signature, constants, attributes)


@dataclass(frozen=True)
class Cost:
    """What ptxas says of a kernel."""

    registers: int
    spilled: int
    shared: int


def cost(call: Call, target: int) -> Cost:
    """Compile a launch for sm_`target`."""
    compiled = triton.compile(
        source(call), target=GPUTarget("cuda", target, 32), options={"num_warps": call.warps, "maxnreg": launch.REGISTERS}
    )
    tool = "ptxas-blackwell" if target >= 100 else "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(compiled.asm["ptx"])
        said = subprocess.run(
            [
                Path(nvidia.__file__).parent / "bin" / tool, "-v",
                f"--gpu-name=sm_{target}{'a' if target >= 90 else ''}",
                ptx, "-o", Path(folder) / "kernel.cubin",
            ],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    registers = re.search(r"Used (\d+) registers", said)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    if registers is None or not spills:
        raise click.ClickException(f"ptxas says nothing of registers: {said}")
    return Cost(int(registers[1]), sum(map(int, spills)), compiled.metadata.shared)


def compiled(targets: tuple[int, ...], types: tuple[torch.dtype, ...]) -> Iterator[tuple[Call, str, int, Cost]]:
    for dtype in types:
        seen = set()
        for call in sequence_calls(1, 192, 16384, 16, dtype) + picture_calls(1, 192, 128, 128, 16, dtype):
            if call.name in seen:
                continue
            seen.add(call.name)
            for target in targets:
                yield call, str(dtype).removeprefix("torch."), target, cost(call, target)

if __name__ == "__main__":
    import time
    t=time.time()
    for call, ty, target, c in compiled(tuple(int(x) for x in sys.argv[1].split(",")), TYPES[:int(sys.argv[2])]):
        print(f"{call.name:50} {ty} sm_{target} {c} {time.time()-t:.1f}", flush=True); t=time.time()
