"""Time the selective scan's backends beside each other.

All candidates of a shape run in turn in one process, round after round, and medians are compared:
what disturbs one disturbs all. A line at the end says how much of the processors other work took.

    python scripts/bench_scan.py
    python scripts/bench_scan.py --shape 1 640 16384 16 --groups 4 --dtype bfloat16

mambapy's parallel scan joins in if it is installed (pip install mambapy).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmamba.ops import backend_table, selective_scan

SHAPES = [(8, 640, 324, 16), (1, 640, 4096, 16), (1, 192, 16384, 16), (1, 640, 16384, 16)]
# Autograd of a plain loop and of mambapy keeps every state; beyond this much it is left out.
MOST_STATE_BYTES = 400e6

Scan = Callable[..., Tensor]


def mambapy_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
) -> Tensor:
    """The same recurrence through mambapy's pscan, which wants (B, L, D, N)."""
    from mambapy.pscan import pscan

    per_group = u.shape[1] // B.shape[1]
    delta = F.softplus(delta + bias[:, None]).transpose(1, 2)
    B, C = (t.repeat_interleave(per_group, 1).permute(0, 3, 1, 2) for t in (B, C))
    drive = (delta * u.transpose(1, 2))[..., None] * B
    states = pscan(torch.exp(delta[..., None] * A), drive)
    y = (states * C).sum(-1).transpose(1, 2) + D[:, None] * u
    return (y * F.silu(z)).to(u.dtype)


def candidates(shape: tuple[int, ...]) -> dict[str, Scan]:
    """Scans that can run this shape, each on the tensors of `inputs`."""

    def ours(backend: str) -> Scan:
        return lambda *t: selective_scan(*t, delta_softplus=True, backend=backend)

    found = {s.name: ours(s.name) for s in backend_table() if s.available}
    if importlib.util.find_spec("mambapy"):
        found["mambapy"] = mambapy_scan
    found.pop("mamba_ssm", None)  # a CUDA backend; this script times the CPU
    batch, channels, length, states = shape
    if 4 * batch * channels * length * states > MOST_STATE_BYTES:
        found.pop("reference", None)
        found.pop("mambapy", None)
    return found


def inputs(shape: tuple[int, ...], groups: int, dtype: torch.dtype) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias with ordinary values, all wanting gradients."""
    batch, channels, length, states = shape
    activation = (batch, channels, length)
    rows = (batch, groups, states, length)
    activations = [torch.randn(s, dtype=dtype) for s in (activation, activation, rows, rows)]
    u, delta, B, C = activations
    A = -torch.arange(1.0, states + 1).repeat(channels, 1)
    D, bias = torch.ones(channels), torch.full((channels,), -3.0)
    z = torch.randn(activation, dtype=dtype)
    return [t.requires_grad_() for t in (u, delta, A, B, C, D, z, bias)]


def bench(shape: tuple[int, ...], groups: int, dtype: torch.dtype, rounds: int) -> None:
    """Print one row per candidate: medians, nanoseconds per (b, d, l, n), ratios to the slowest."""
    tensors = inputs(shape, groups, dtype)
    found = candidates(shape)
    forward: dict[str, list[float]] = {name: [] for name in found}
    both: dict[str, list[float]] = {name: [] for name in found}
    gradient = torch.ones(shape[:3], dtype=dtype)
    for warm in range(-1, rounds):
        for name, scan in found.items():
            start = time.perf_counter()
            with torch.no_grad():
                scan(*tensors)
            middle = time.perf_counter()
            torch.autograd.grad(scan(*tensors), tensors, gradient)
            if warm >= 0:
                forward[name].append(middle - start)
                both[name].append(time.perf_counter() - middle)
    cells = shape[0] * shape[1] * shape[2] * shape[3] / 1e9
    slowest = [max(statistics.median(t) for t in times.values()) for times in (forward, both)]
    print(f"\n{shape}, {groups} groups, {dtype}, {torch.get_num_threads()} threads")
    print(f"{'':12}{'forward':>30}{'forward + backward':>34}")
    for name in found:
        columns = []
        for times, most in zip((forward, both), slowest, strict=True):
            median = statistics.median(times[name])
            columns.append(
                f"{1e3 * median:10.2f} ms {median / cells:7.3f} ns {most / median:6.1f}x"
            )
        print(f"{name:12}" + "     ".join(columns))


def processor_seconds() -> tuple[float, float]:
    """Busy seconds of the whole machine and of this process."""
    with open("/proc/stat") as lines:
        user, nice, system = (int(x) for x in lines.readline().split()[1:4])
    own = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK"), own.user + own.system


def main() -> None:
    """Parse, run, say how calm the machine was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=4, metavar=("B", "D", "L", "N"))
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for status in backend_table():
        print(f"{status.name:12}{'yes' if status.available else 'no':5}{status.reason}")
    start, busy = time.perf_counter(), processor_seconds()
    for shape in [tuple(options.shape)] if options.shape else SHAPES:
        bench(shape, options.groups, getattr(torch, options.dtype), options.rounds)
    wall = time.perf_counter() - start
    machine, own = (after - before for after, before in zip(processor_seconds(), busy, strict=True))
    foreign = max(0.0, machine - own) / wall
    print(f"\nother work kept {foreign:.2f} of {os.cpu_count()} processors busy meanwhile")
    if foreign > 0.1:
        print("that is too much for figures to be quoted; run again on a quiet machine")


if __name__ == "__main__":
    main()
