r"""Compare the CPU scan with other implementations, with its floor and with its targets.

    python scripts/bench_scan.py                    everything, about 4 minutes
    python scripts/bench_scan.py speed floor        some parts only
    ATEN_CPU_CAPABILITY=avx2 python scripts/bench_scan.py    with the library for AVX2
    pip install mambapy
    MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
        pip install --no-deps --no-build-isolation mamba-ssm

Candidates are called in turn in one process, round after round, and medians are compared, so that
other load affects all alike. A part is repeated if other processes used more than a tenth of a
processor meanwhile.
"""

from __future__ import annotations

import ctypes
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import torch
from scan_peers import Scan, compiled, loop_scan, mamba_ssm_reference, mambapy
from torch import Tensor

from clipmamba.ops import (
    backend_table,
    cross_merge,
    cross_scan,
    cross_selective_scan,
    selective_scan,
)

Shape = tuple[int, int, int, int]  # B, D, L, N
BIG: Shape = (1, 192, 16384, 16)
SMALL: Shape = (1, 128, 1024, 16)
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
BUSY = 0.1  # processors that other processes may use


def ours(*tensors: Tensor) -> Tensor:
    """Run the fused kernel."""
    return selective_scan(*tensors, delta_softplus=True, backend="cpu")  # type: ignore[return-value]


def plain_torch(*tensors: Tensor) -> Tensor:
    """Run the two-level scan in plain PyTorch."""
    return selective_scan(*tensors, delta_softplus=True, backend="torch")  # type: ignore[return-value]


def make(shape: Shape, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Make u, delta, A, B, C, D, z, delta_bias with typical values, all requiring gradients."""
    batch, channels, length, states = shape
    generator = torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, dtype=dtype)

    u, delta, z = (normal(batch, channels, length) for _ in range(3))
    B, C = normal(batch, states, length), normal(batch, states, length)
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    D, bias = torch.ones(channels), torch.full((channels,), -3.0)
    return [t.requires_grad_() for t in (u, delta, A, B, C, D, z, bias)]


def forward(scan: Scan, tensors: Sequence[Tensor]) -> None:
    """Run the scan without gradients."""
    with torch.no_grad():
        scan(*tensors)


def both(scan: Scan, tensors: Sequence[Tensor], gradient: Tensor) -> None:
    """Run forward and backward from a given gradient, whose own cost is not the scan's."""
    torch.autograd.grad(scan(*tensors), list(tensors), gradient)


def given_to(way: Callable[..., None], tensors: Sequence[Tensor]) -> tuple[object, ...]:
    """Return the arguments of `forward` or `both` after the scan."""
    return (tensors, torch.ones_like(tensors[0])) if way is both else (tensors,)


def backward_alone(scan: Scan, tensors: Sequence[Tensor]) -> float:
    """Return the seconds of the backward pass."""
    out = scan(*tensors)
    gradient = torch.ones_like(out)
    begun = time.perf_counter()
    torch.autograd.grad(out, list(tensors), gradient)
    return time.perf_counter() - begun


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of calls made in turn; a call may return its own seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-1, rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            told = call()
            took = told if isinstance(told, float) else time.perf_counter() - begun
            if round_ >= 0:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def processor_seconds() -> tuple[float, float]:
    """Return the busy seconds of the machine, and of this process with its children."""
    with open("/proc/stat") as lines:
        user, nice, system = (int(x) for x in lines.readline().split()[1:4])
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return (user + nice + system) / os.sysconf("SC_CLK_TCK"), own


def quietly(measure: Callable[[], list[str]], tries: int = 4) -> list[str]:
    """Run a measurement, again if other processes were busy."""
    for left in reversed(range(tries)):
        begun, before = time.perf_counter(), processor_seconds()
        lines = measure()
        after, wall = processor_seconds(), time.perf_counter() - begun
        foreign = max(0.0, (after[0] - before[0]) - (after[1] - before[1])) / wall
        if foreign <= BUSY:
            return lines
        note = "repeated" if left else "NOT to be quoted"
        click.echo(f"(other processes used {foreign:.2f} processors: {note})")
    return lines


def verdict(value: float, bar: float, at_least: bool) -> str:
    """Format a figure with its target."""
    met = value >= bar if at_least else value <= bar
    sign = "at least" if at_least else "at most"
    return f"{value:.3g} | {sign} {bar:g} | {'met' if met else '**missed**'} |"


def speed() -> list[str]:
    """Compare with other implementations."""
    lines = ["| pass | shape | ms | ratio | target | |", "|---|---|---|---|---|---|"]
    reference, parallel = mamba_ssm_reference(), mambapy()
    cases: list[tuple[str, Shape, Callable[..., None], Scan | None, str, float, int]] = [
        ("forward", BIG, forward, reference, "mamba-ssm's reference", 200, 5),
        ("forward + backward", BIG, both, parallel, "mambapy", 120, 3),
        ("forward + backward", SMALL, both, reference, "mamba-ssm's reference", 800, 5),
    ]
    for what, shape, way, peer, name, bar, rounds in cases:
        if peer is None:
            lines.append(f"| {what}, {name} is not installed | {shape} | | | | |")
            continue
        tensors = make(shape)
        given = given_to(way, tensors)
        calls: dict[str, Callable[[], object]] = {
            name: lambda way=way, peer=peer, given=given: way(peer, *given)
        }
        # many calls of the fast one between two of the slow one, whose half second lets the second
        # processor fall asleep: the next four or five calls take up to twice as long
        calls |= {f"ours {i}": lambda way=way, given=given: way(ours, *given) for i in range(25)}
        took = medians(calls, rounds)
        own = statistics.median(v for k, v in took.items() if k != name)
        ratio = verdict(took[name] / own, bar / 2 if is_narrow() else bar, at_least=True)
        lines.append(f"| {what}, against {name} | {shape} | {1e3 * own:.2f} | {ratio}")
    return lines


def linear() -> list[str]:
    """Measure the time per step at lengths from 2^10 to 2^20, relative to that at 2^14."""
    lengths = [2**power for power in range(10, 21, 2)]
    lines = ["| L | forward, ns per (b, d, l, n) | forward + backward |", "|---|---|---|"]
    unit: list[list[float]] = []
    for length in lengths:
        shape = (1, BIG[1], length, BIG[3])
        tensors = make(shape)
        gradient = torch.ones_like(tensors[0])
        rounds = max(3, min(50, 2**22 // length))
        took = medians(
            {
                "forward": lambda t=tensors: forward(ours, t),
                "both": lambda t=tensors, g=gradient: both(ours, t, g),
            },
            rounds,
        )
        unit.append([1e9 * seconds / (shape[1] * length * shape[3]) for seconds in took.values()])
        lines.append(f"| {length} | {unit[-1][0]:.3f} | {unit[-1][1]:.3f} |")
    middle = unit[lengths.index(2**14)]
    worst = max(abs(one[k] / middle[k] - 1) for one in unit for k in (0, 1))
    return [*lines, "", f"| farthest from 2^14 | {verdict(worst, 0.15, at_least=False)}"]


def is_narrow() -> bool:
    """Return whether the library for AVX2 is used."""
    return torch.backends.cpu.get_cpu_capability() != "AVX512"


def loop() -> list[str]:
    """Compare with the loop of public C runtimes, and with what the floor would allow."""
    rate, lanes = vector_rate()
    lines = [
        "| pass | shape | ours, ms | loop, ms | ratio | target | | at the floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shape, rounds in ((BIG, 15), ((1, BIG[1], SMALL[2], BIG[3]), 201)):
        _, channels, length, states = shape
        tensors = [t.detach() for t in make(shape)[:5]]

        def fused(tensors: list[Tensor] = tensors) -> Tensor:
            return selective_scan(*tensors, delta_softplus=True, backend="cpu")  # type: ignore[return-value]

        with loop_scan(*tensors) as peer:
            error = ((peer() - fused()).abs().max() / fused().abs().max()).item()
            if not error < 1e-5:
                raise click.ClickException(f"the loop's result differs by {error:.0e}")
            took = medians({"peer": peer, "ours": fused}, rounds)
        operations = length * -(-channels // lanes) * forward_operations(states, lanes, False)
        ratio = verdict(took["peer"] / took["ours"], 8 if is_narrow() else 15, at_least=True)
        times = " | ".join(f"{1e3 * took[name]:.2f}" for name in ("ours", "peer"))
        most = f"{took['peer'] * rate / operations:.1f}"
        lines.append(f"| forward, no D, z or bias | {shape} | {times} | {ratio} {most} |")
    return lines


def vector_rate() -> tuple[float, int]:
    """Return the vector operations per second of all threads, and the lanes of a vector."""
    with compiled("vector_rate.cpp") as loaded:
        loaded.multiply_add.argtypes = (ctypes.c_int64, ctypes.c_float)
        rounds, threads = 20_000_000, torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            best = 0.0
            for _ in range(3):
                begun = time.perf_counter()
                list(pool.map(lambda _: loaded.multiply_add(rounds, 0.5), range(threads)))
                best = max(best, 12 * rounds * threads / (time.perf_counter() - begun))
        return best, loaded.lanes()


def bandwidth() -> float:
    """Return the bytes per second of a triad over three arrays of 256 MB."""
    a, b, c = (torch.ones(2**26) for _ in range(3))
    took = medians({"triad": lambda: torch.add(a, b, alpha=3.0, out=c)}, 5)["triad"]
    return 3 * 4 * 2**26 / took


# The minimum vector operations for one step of a vector of channels, counted by hand in csrc;
# loads, stores and broadcasts from memory are free. The exponential of a product takes 9 with
# AVX-512: multiply, reduce, subtract, 5 for the polynomial, scale; otherwise 10: two multiply-adds
# and a subtraction for the two parts of the exponent, the 5, shift, add.
def exponential(lanes: int) -> int:
    """Return the operations of one exp."""
    return 9 if lanes == 16 else 10


def forward_operations(states: int, lanes: int, gated: bool = True) -> float:
    """Count a step's operations: exp, h, x B, y of a state; softplus, gate; 4 transposed tiles."""
    softplus, gate, turned = exponential(lanes) + 15, exponential(lanes) + 5, math.log2(lanes)
    step = states * (exponential(lanes) + 3) + softplus + 3 * turned
    return step + (gate + turned if gated else 0)


def backward_operations(states: int, lanes: int) -> float:
    """Count those of a backward step: a state in both directions, its two lane sums; 7 tiles."""
    sums = 2 * 3 * (lanes - 1) / lanes
    softplus, gate, turned = exponential(lanes) + 18, exponential(lanes) + 11, math.log2(lanes)
    return states * (exponential(lanes) + 12 + sums) + softplus + gate + 7 * turned + 6


def floor() -> list[str]:
    """Compare the time with the minimum that memory traffic and vector operations take."""
    rate, lanes = vector_rate()
    bytes_a_second = bandwidth()
    lines = [
        f"{rate / 1e9:.1f} G vector operations of {lanes} lanes per second, "
        f"{bytes_a_second / 1e9:.1f} GB/s",
        "",
        "| what | shape | floor: bytes, ms | operations, ms | measured, ms | ratio | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ways = (
        ("forward", forward_operations, 4, 2, 1.5),
        ("backward", backward_operations, 7, 4, 1.8),
    )
    for shape in (BIG, SMALL, (1, 96, 65536, 4)):
        batch, channels, length, states = shape
        tensors = make(shape)
        took = medians(
            {
                "forward": lambda t=tensors: forward(ours, t),
                "backward": lambda t=tensors: backward_alone(ours, t),
            },
            max(21, 2**18 // length),
        )
        # activations: channels of each step that go by once; rows: likewise of B and C
        for what, counted, activations, rows, bar in ways:
            steps = batch * length
            moved = 4 * steps * (channels * activations + states * rows)
            operations = steps * -(-channels // lanes) * counted(states, lanes)
            least = [moved / bytes_a_second, operations / rate]
            cells = " | ".join(f"{1e3 * seconds:.2f}" for seconds in (*least, took[what]))
            ratio = verdict(took[what] / max(least), bar, at_least=False)
            lines.append(f"| {what} | {shape} | {cells} | {ratio}")
    return lines


_MEMORY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import bench_scan as bench
scan = {"ours": bench.ours, "mambapy": bench.mambapy()}[sys.argv[2]]
tensors = bench.make(bench.BIG)
def run(tensors):
    bench.both(scan, tensors, torch.ones_like(tensors[0]))
run(bench.make((1, 32, 256, 16)))
def peak(key):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(lines[key].split()[0]) / 1000
before = peak("VmRSS")
run(tensors)
print(peak("VmHWM") - before)
"""


def memory() -> list[str]:
    """Measure the memory of forward and backward beside the inputs, in a fresh process; Linux."""
    lines = ["| forward + backward of the big shape | MB | target | |", "|---|---|---|---|"]
    for name in ("ours", "mambapy"):
        if name == "mambapy" and mambapy() is None:
            continue
        command = [sys.executable, "-c", _MEMORY, str(Path(__file__).parent), name]
        megabytes = float(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        bar = (
            verdict(megabytes, 120, at_least=False) if name == "ours" else f"{megabytes:.0f} | | |"
        )
        lines.append(f"| {name} | {bar}")
    return lines


def accuracy() -> list[str]:
    """Compare with float64, largest error over largest value; check that repeats are identical."""
    lines = ["| shape | of | error | target | |", "|---|---|---|---|---|"]
    for shape in ((1, 32, 65536, 16), (2, 40, 2000, 16)):
        tensors = make(shape)
        results = []
        for dtype, backend in (
            (torch.float32, "cpu"),
            (torch.float32, "cpu"),
            (torch.float64, "torch"),
        ):
            leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
            out = selective_scan(*leaves, delta_softplus=True, backend=backend)
            assert isinstance(out, Tensor)
            generator = torch.Generator().manual_seed(1)
            gradient = torch.randn(out.shape, generator=generator).to(dtype)
            results.append([out.detach(), *torch.autograd.grad(out, leaves, gradient)])
        own, again, truth = results
        same = all(torch.equal(a, b) for a, b in zip(own, again, strict=True))
        for name, value, exact in zip(("out", *(f"d{n}" for n in NAMES)), own, truth, strict=True):
            error = ((value - exact).abs().max() / exact.abs().max()).item()
            bar = 1e-5 if name in ("dA", "dD", "ddelta_bias") else 2e-6
            lines.append(f"| {shape} | {name} | {verdict(error, bar, at_least=False)}")
        lines.append(f"| {shape} | the same bytes again | {'yes' if same else '**no**'} | | |")
    return lines


def cross() -> list[str]:
    """Compare the picture's scan as one operator with four permuted copies through the other."""
    channels, side, states = 192, 128, 16
    generator = torch.Generator().manual_seed(0)
    length = side * side
    x = torch.randn(1, channels, side, side, generator=generator)
    delta = torch.randn(1, 4, channels, length, generator=generator)
    A = -torch.arange(1.0, states + 1).repeat(4 * channels, 1)
    B, C = (torch.randn(1, 4, states, length, generator=generator) for _ in range(2))
    D, bias = torch.ones(4 * channels), torch.full((4 * channels,), -3.0)

    def one(x: Tensor, delta: Tensor, *rest: Tensor) -> Tensor:
        return cross_selective_scan(x, delta, *rest, delta_softplus=True, backend="cpu")

    def copies(x: Tensor, delta: Tensor, *rest: Tensor) -> Tensor:
        A, B, C, D, bias = rest
        sequences = cross_scan(x).flatten(1, 2)
        y = selective_scan(
            *(sequences, delta.flatten(1, 2), A, B, C, D, None, bias),
            delta_softplus=True,
            backend="cpu",
        )
        assert isinstance(y, Tensor)
        return cross_merge(y.unflatten(1, (4, -1)), side, side).view_as(x)

    lines = [
        "| four directions, D = 192, N = 16, 128 x 128 "
        "| one operator, ms | four copies, ms | ratio | target | |",
        "|---|---|---|---|---|---|",
    ]
    layouts = {"rows first": torch.contiguous_format, "channels last": torch.channels_last}
    for layout, form in layouts.items():
        tensors = [x.contiguous(memory_format=form), delta, A, B, C, D, bias]
        tensors = [t.detach().requires_grad_() for t in tensors]
        for what, way in (("forward", forward), ("forward + backward", both)):
            given = given_to(way, tensors)
            took = medians(
                {
                    "one": lambda way=way, given=given: way(one, *given),
                    "copies": lambda way=way, given=given: way(copies, *given),
                },
                11,
            )
            ratio = verdict(took["copies"] / took["one"], 1.5, at_least=True)
            times = " | ".join(f"{1e3 * took[name]:.1f}" for name in ("one", "copies"))
            lines.append(f"| {what}, {layout} | {times} | {ratio}")
    return lines


PARTS = {part.__name__: part for part in (speed, loop, linear, floor, memory, accuracy, cross)}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
def main(parts: tuple[str, ...]) -> None:
    """Print a table for each part."""
    for status in backend_table():
        click.echo(f"{status.name:12}{'yes' if status.available else 'no':5}{status.reason}")
    click.echo(f"{torch.get_num_threads()} threads")
    for name in parts or PARTS:
        click.echo(f"\n## {name}\n")
        click.echo("\n".join(quietly(PARTS[name])))


if __name__ == "__main__":
    main()
