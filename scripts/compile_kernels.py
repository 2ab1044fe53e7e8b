r"""Compile the Triton kernels without a GPU, and report what they cost.

    python scripts/compile_kernels.py               every kernel, type and target, as a table
    python scripts/compile_kernels.py --roofline    bytes moved and minimum times of some shapes

The kernels are compiled for the exact arguments of a call: tensors on torch's meta device go
through `clipmamba.ops.selective_scan.backends.triton.launch`, and each launch is recorded instead
of run. The exit code is 1 if a kernel spills or needs more than 128 registers per thread.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
import triton
from torch import Tensor
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from clipmamba.ops.selective_scan.backends.triton import launch
from clipmamba.ops.selective_scan.interface import ScanInputs

TARGETS = (80, 90, 100)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_REGISTERS = 128
SEQUENCES = ((1, 128, 1024, 16), (1, 192, 16384, 16), (2, 64, 16384, 8), (1, 96, 65536, 4))
PICTURES = ((1, 192, 128, 128, 16),)
TOOLS = Path(nvidia.__file__).parent / "bin"

POINTERS = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16"
}  # fmt: skip

# An H100 (SXM), from its data sheet; per clock, 32 lanes are shuffled or 16 exponentials computed.
MULTIPROCESSORS, CLOCK, BANDWIDTH = 132, 1.98e9, 3.35e12


@dataclass(frozen=True)
class Call:
    """A recorded launch."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        """The kernel's name, its scan direction and its direction in time."""
        parts = [self.kernel.__name__]
        if (way := self.arguments.get("WAY")) is not None:
            parts.append(("sequence", "rows", "columns")[getattr(way, "value", way)])
        if self.arguments.get("TURNED"):
            parts.append("back")
        if "BACKWARD" in self.arguments:
            parts.append("backward" if self.arguments["BACKWARD"] else "forward")
        return ", ".join(parts)

    @property
    def is_picture(self) -> bool:
        """Whether the launch scans one or two of a picture's four directions."""
        return self.arguments.get("height", 0) > 0

    def moved(self) -> int:
        """Bytes read and written; data shared by programs counts once, as it is cached."""
        # a picture's launch uses one or two of the four directions' tensors
        whole = {"values", "u", "dout", "out", "du", "add"} if self.is_picture else set()
        share = (4 if "TURNED" in self.arguments else 2) if self.is_picture else 1
        return sum(
            size(value) // (1 if name in whole else share)
            for name, value in self.arguments.items()
            if isinstance(value, Tensor)
        )


def size(*tensors: Tensor | None) -> int:
    """Return the size in bytes."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make a tensor on the meta device, without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


@dataclass(frozen=True)
class Calls:
    """The launches of forward and backward passes, and the bytes that any kernel must move."""

    forward: list[Call]
    backward: list[Call]
    least_forward: int
    least_backward: int


def calls(shape: tuple[int, ...], dtype: torch.dtype) -> Calls:
    """Record the launches of a scan with all options: (B, D, L, N), or (B, D, H, W, N)."""
    batch, channels, *sides, states = shape
    steps, groups = (sides[0], 1) if len(sides) == 1 else (sides[0] * sides[1], 4)
    u = meta(batch, channels, *sides, dtype=dtype)
    delta = meta(batch, groups * channels, steps, dtype=dtype)
    rows = meta(batch, groups, states, steps, dtype=dtype)
    row, A = meta(groups * channels), meta(groups * channels, states)
    state = meta(batch, channels, states) if groups == 1 else None
    inputs = ScanInputs(
        u=u,
        delta=delta,
        A=A,
        B=rows,
        C=rows,
        D=row,
        z=u if groups == 1 else None,
        delta_bias=row,
        initial_state=state,
        delta_softplus=True,
    )
    ahead: list[Call] = []
    back: list[Call] = []
    saved = launch.forward(inputs, True, launch=lambda *call: ahead.append(Call(*call)))[2]
    launch.backward(u, state, saved, inputs, launch=lambda *call: back.append(Call(*call)))
    given = size(*inputs.tensors)
    return Calls(ahead, back, given + size(u, state), 2 * given + size(u, state))


def source(call: Call) -> ASTSource:
    """Return the kernel specialized as by a launch: for arguments of 1 and multiples of 16."""
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
class Loop:
    """Instruction counts of a loop's body."""

    instructions: int
    shuffles: int
    exponentials: int


@dataclass(frozen=True)
class Cost:
    """The cost of a kernel, according to ptxas and the disassembly."""

    registers: int
    spilled: int
    shared: int
    loops: tuple[Loop, ...]


def tool(name: str, *arguments: str | Path) -> str:
    """Run a tool of Triton's wheel and return its output."""
    result = subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True)
    return result.stdout + result.stderr


def loops(assembly: str) -> tuple[Loop, ...]:
    """Find the loops that compute exponentials: from a label to the jump back to it."""
    lines = assembly.splitlines()
    labels = {
        m[1]: at for at, line in enumerate(lines) if (m := re.match(r"\s*(\.L_x_\d+):", line))
    }
    found = []
    for at, line in enumerate(lines):
        jump = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line)
        if jump is None or labels.get(jump[1], at) >= at:
            continue
        body = [
            text for text in lines[labels[jump[1]] : at + 1] if re.search(r"/\*\w{4,}\*/", text)
        ]
        counts = [sum(word in text for text in body) for word in ("SHFL", "MUFU.EX2")]
        found.append(Loop(len(body), *counts))
    return tuple(loop for loop in found if loop.exponentials)


def cost(call: Call, target: int) -> Cost:
    """Compile a launch for sm_`target`."""
    compiled = triton.compile(
        source(call),
        target=GPUTarget("cuda", target, 32),
        options={"num_warps": call.warps, "maxnreg": launch.REGISTERS},
    )
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        ptx.write_text(compiled.asm["ptx"])
        said = tool(
            "ptxas-blackwell" if target >= 100 else "ptxas",
            *("-v", f"--gpu-name=sm_{target}{'a' if target >= 90 else ''}", ptx, "-o", cubin),
        )
        assembly = tool("nvdisasm", "-c", cubin)
    registers = re.search(r"Used (\d+) registers", said)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    if registers is None or not spills:
        raise click.ClickException(f"ptxas reports no registers: {said}")
    spilled = sum(map(int, spills))
    return Cost(int(registers[1]), spilled, compiled.metadata.shared, loops(assembly))


def variants(dtype: torch.dtype) -> dict[str, Call]:
    """Return every kernel's launch at N = 16, by name."""
    found: dict[str, Call] = {}
    for shape in (SEQUENCES[1], PICTURES[0]):
        both = calls(shape, dtype)
        for call in both.forward + both.backward:
            found.setdefault(call.name, call)
    return found


def compile_variant(job: tuple[str, torch.dtype, int]) -> Cost:
    """Compute one cell of the table, in a worker process."""
    name, dtype, target = job
    return cost(variants(dtype)[name], target)


def all_costs(only: str = "") -> dict[tuple[str, torch.dtype, int], Cost]:
    """Return the costs of every kernel whose name contains `only`, compiled in parallel."""
    jobs = [
        (name, dtype, target)
        for dtype in TYPES
        for name in variants(dtype)
        for target in TARGETS
        if only in name
    ]
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return dict(zip(jobs, pool.map(compile_variant, jobs), strict=True))


def table(costs: dict[tuple[str, torch.dtype, int], Cost]) -> Iterator[str]:
    """Yield the table: registers per thread, bytes spilled, bytes of shared memory."""
    yield "| kernel | type |" + "".join(f" sm_{target} |" for target in TARGETS)
    yield "|---|---|" + "---|" * len(TARGETS)
    for name, dtype in dict.fromkeys((name, dtype) for name, dtype, _ in costs):
        cells = [costs[name, dtype, target] for target in TARGETS]
        text = "".join(f" {c.registers} / {c.spilled} / {c.shared} |" for c in cells)
        yield f"| {name} | {str(dtype).removeprefix('torch.')} |{text}"


def roofline(dtype: torch.dtype) -> Iterator[str]:
    """Yield the table of bytes per launch and the minimum time of each unit of an H100."""
    yield (
        "| shape | kernel | MB | memory, µs | instructions, µs | shuffles, µs | exponentials, µs |"
    )
    yield "|---|---|---|---|---|---|---|"
    costs: dict[str, Cost] = {}
    sums = []
    for shape in SEQUENCES + PICTURES:
        both = calls(shape, dtype)
        ways = (
            ("forward", both.forward, both.least_forward),
            ("backward", both.backward, both.least_backward),
        )
        for way, launches, least in ways:
            total = 0
            for call in launches:
                total += call.moved()
                if call.name not in costs:
                    costs[call.name] = cost(call, 90)
                cells = [1e6 * call.moved() / BANDWIDTH, *unit_times(call, costs[call.name])]
                text = " | ".join(f"{cell:.1f}" for cell in cells)
                yield f"| {shape} | {call.name} | {call.moved() / 1e6:.1f} | {text} |"
            if way == "backward":
                names = ("dA", "dB", "dC", "dD", "dbias")
                partial = size(*(launches[-1].arguments[name] for name in names))
                total += partial
                time = 1e6 * partial / BANDWIDTH
                yield f"| {shape} | torch's sums | {partial / 1e6:.1f} | {time:.1f} | | | |"
            sums.append((shape, way, total, least))
    yield ""
    yield "| shape | pass | MB moved | minimum, MB | ratio |"
    yield "|---|---|---|---|---|"
    for shape, way, total, least in sums:
        yield f"| {shape} | {way} | {total / 1e6:.1f} | {least / 1e6:.1f} | {total / least:.2f} |"


def unit_times(call: Call, found: Cost) -> list[float]:
    """Return the microseconds that the loops take of schedulers, shuffles and exponentials."""
    rounds = call.arguments["states"]
    if call.kernel.__name__ == "carry_states":
        rounds = -(-call.arguments["chunks"] // call.arguments["BC"])
    warps = call.grid[0] * call.grid[1] * call.grid[2] * call.warps
    clocks = [0.0, 0.0, 0.0]
    for loop in found.loops:
        for unit, count in enumerate((loop.instructions / 4, loop.shuffles, 2 * loop.exponentials)):
            clocks[unit] += warps * rounds * count
    return [1e6 * clock / (MULTIPROCESSORS * CLOCK) for clock in clocks]


@click.command()
@click.option("--roofline", "wanted", is_flag=True, help="Print bytes and minimum times.")
@click.option("--only", default="", help="Only kernels whose names contain this text.")
def main(wanted: bool, only: str) -> None:
    """Print a Markdown table."""
    if wanted:
        for line in roofline(torch.float32):
            click.echo(line)
        return
    costs = all_costs(only)
    for line in table(costs):
        click.echo(line)
    bad = [c for c in costs.values() if c.spilled or c.registers > MOST_REGISTERS]
    click.echo(f"\n{len(costs)} kernels, {len(bad)} over the limits (no spills, 128 registers)")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
