"""Measure time and memory of the stylizer with each mixer, and plot them by picture size.

    pip install 'clipmamba[bench]'
    python scripts/bench_scaling.py

Every measurement runs in a fresh process: the forward pass without gradients, then the training
step (forward, mean square error, backward, Adam), batch 1, float32, default widths. Mixers take
turns, round after round, and medians are shown. Results are kept in a JSON-lines file, and only
missing ones are measured, so the script can be stopped and started again. A size is skipped, and
marked in the figure, if extrapolation from the two previous sizes exceeds the limits of time or
memory. Linux only: memory is the peak of the resident set above its size before the first pass.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F

MIXERS = ("mamba", "attention", "conv")
PASSES = ("forward", "training")
SIZES = (128, 256, 512, 1024, 2048)
SLOW = 20.0  # seconds; a slower pass is measured once, not in every round
FITTED = 3  # number of the largest sizes, to which exponents are fitted

Key = tuple[str, int, str]  # mixer, side in pixels, pass


def kilobytes(key: str) -> int:
    """Return a size from this process's status in /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def peak_and_seconds(call: Callable[[], None], baseline: int) -> dict[str, float]:
    """Measure the first call's peak memory above the baseline, and later calls' median time."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    seconds: list[float] = []
    while len(seconds) < 6 and sum(seconds) < 2:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
        if len(seconds) == 1:
            peak = kilobytes("VmHWM") - baseline
    return {"megabytes": peak / 1000, "seconds": statistics.median(seconds[1:] or seconds)}


def measure(mixer: str, size: int, passes: Sequence[str]) -> list[dict[str, Any]]:
    """Measure passes of one network on one picture in this process, which should be fresh."""
    from clipmamba.models import Stylizer

    torch.manual_seed(0)
    model = Stylizer(mixer=mixer)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    style = F.normalize(torch.randn(1, model.config.style_dim), dim=1)

    @torch.no_grad()
    def forward(photo: torch.Tensor) -> None:
        model(photo, style)

    def training(photo: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.mse_loss(model(photo, style), photo).backward()
        optimizer.step()

    calls = {"forward": forward, "training": training}
    small, photo = torch.rand(1, 3, 16, 16), torch.rand(1, 3, size, size)
    for name in passes:
        calls[name](small)  # load libraries and allocate the optimizer's memory
    baseline, rows = kilobytes("VmRSS"), []
    for name in passes:
        found = peak_and_seconds(lambda name=name: calls[name](photo), baseline)
        rows.append({"mixer": mixer, "size": size, "pass": name} | found)
    return rows


_FRESH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from bench_scaling import measure
for row in measure(sys.argv[2], int(sys.argv[3]), sys.argv[4:]):
    print(json.dumps(row))
"""


def measure_fresh(mixer: str, size: int, passes: Sequence[str]) -> list[dict[str, Any]]:
    """Run `measure` in a process of its own."""
    command = [sys.executable, "-c", _FRESH, str(Path(__file__).parent), mixer, str(size), *passes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, perhaps for its memory"])[-1]
        raise click.ClickException(f"{mixer} at {size}: {last}; a lower --memory-limit skips it")
    return [json.loads(line) for line in done.stdout.splitlines()]


class Results:
    """All measurements so far, kept in a JSON-lines file."""

    def __init__(self, file: Path):
        self.file, self.rows = file, {}  # type: ignore[var-annotated]
        if file.exists():
            for line in file.read_text().splitlines():
                self._take(json.loads(line))

    def _take(self, row: dict[str, Any]) -> None:
        self.rows.setdefault((row["mixer"], row["size"], row["pass"]), []).append(row)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows of `measure`."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as stream:
            for row in rows:
                self._take(row)
                stream.write(json.dumps(row) + "\n")

    def median(self, key: Key, what: str) -> float:
        """Return the median of "seconds" or "megabytes"."""
        return statistics.median(row[what] for row in self.rows[key])

    def enough(self, key: Key, rounds: int) -> bool:
        """Return whether a key was measured `rounds` times, or once if it is slow."""
        found = len(self.rows.get(key, ()))
        return found >= rounds or (found > 0 and self.median(key, "seconds") > SLOW)

    def curve(self, mixer: str, name: str, what: str) -> dict[int, float]:
        """Return the medians by size, the smallest first."""
        sizes = sorted(size for m, size, p in self.rows if (m, p) == (mixer, name))
        return {size: self.median((mixer, size, name), what) for size in sizes}

    def foreseen(self, key: Key, what: str) -> float:
        """Extrapolate the cost of a size from the two previous sizes; 0 if unknown."""
        mixer, size, name = key
        before = [(s, v) for s, v in self.curve(mixer, name, what).items() if s < size][-2:]
        if len(before) < 2 or min(value for _, value in before) <= 0:
            return 0.0
        (first, low), (second, high) = before
        return high * (size / second) ** (math.log(high / low) / math.log(second / first))


def exponent(curve: dict[int, float]) -> float:
    """Fit k in value ~ pixels^k: least squares of the logarithms over the largest sizes."""
    points = [(2 * math.log(size), math.log(value)) for size, value in curve.items()][-FITTED:]
    x, y = ([point[axis] for point in points] for axis in (0, 1))
    return statistics.linear_regression(x, y).slope


def left_out(results: Results, key: Key, limits: dict[str, float]) -> str:
    """Return why a size is skipped, or "" if it is not."""
    seconds, megabytes = (results.foreseen(key, what) for what in ("seconds", "megabytes"))
    if seconds > limits["seconds"]:
        return f"about {seconds:.0f} s"
    if megabytes > limits["megabytes"]:
        return f"about {megabytes / 1000:.0f} GB"
    return ""


def tables(results: Results, limits: dict[str, float]) -> list[str]:
    """Return the tables of measurements and exponents, in Markdown."""
    lines = [
        "| picture | mixer | forward, s | forward, MB | training step, s | training step, MB |",
        "|---|---|---|---|---|---|",
    ]
    for size in sorted({size for _, size, _ in results.rows}):
        for mixer in MIXERS:
            cells = []
            for name in PASSES:
                key = (mixer, size, name)
                if key in results.rows:
                    cells.append(f"{results.median(key, 'seconds'):.3g}")
                    cells.append(f"{results.median(key, 'megabytes'):.0f}")
                else:
                    cells += [left_out(results, key, limits) or "not measured", ""]
            lines.append(f"| {size} x {size} | {mixer} | {' | '.join(cells)} |")
    lines += [
        "",
        "| exponent of pixels | forward, time | memory | training step, time | memory | sizes |",
        "|---|---|---|---|---|---|",
    ]
    for mixer in MIXERS:
        curves = [
            results.curve(mixer, p, what) for p in PASSES for what in ("seconds", "megabytes")
        ]
        cells = [f"{exponent(curve):.2f}" if len(curve) > 1 else "" for curve in curves]
        ranges = {f"{min(list(c)[-FITTED:])} to {max(c)}" for c in curves if c}
        lines.append(f"| {mixer} | {' | '.join(cells)} | {', '.join(sorted(ranges))} |")
    return lines


def draw(results: Results, limits: dict[str, float], figure: Path) -> None:
    """Draw the four panels: time and memory of both passes."""
    try:
        import matplotlib
    except ImportError as error:
        raise click.ClickException(
            "the figure needs matplotlib: pip install 'clipmamba[bench]'; or give --figure ''"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    colors = dict(zip(MIXERS, ("tab:blue", "tab:red", "tab:green"), strict=True))
    panels = {"seconds": ("time", "seconds"), "megabytes": ("memory", "MB above the start")}
    fig, axes = pyplot.subplots(2, 2, figsize=(10, 8), sharex=True, layout="constrained")
    sizes = sorted({size for _, size, _ in results.rows})
    for row, name in enumerate(PASSES):
        for axis, (what, (title, unit)) in zip(axes[row], panels.items(), strict=True):
            for mixer in MIXERS:
                curve = results.curve(mixer, name, what)
                if not curve:
                    continue
                label = f"{mixer}, k = {exponent(curve):.2f}" if len(curve) > 1 else mixer
                axis.plot(*zip(*curve.items(), strict=True), "o-", color=colors[mixer], label=label)
                missing = next((size for size in sizes if size > max(curve)), None)
                if missing:
                    foreseen = results.foreseen((mixer, missing, name), what)
                    reason = left_out(results, (mixer, missing, name), limits)
                    last = max(curve)
                    axis.plot([last, missing], [curve[last], foreseen], ":o",
                              color=colors[mixer], markerfacecolor="white", markevery=[1],
                              label=f"not run: {reason} expected")  # fmt: skip
            axis.set(xscale="log", yscale="log", ylabel=unit)
            axis.set_title(f"{'forward pass' if name == 'forward' else 'training step'}: {title}")
            axis.set_xticks(sizes, [f"{size}²" for size in sizes], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.legend()
    fig.suptitle(
        "The same stylizer with each mixer: cost ~ pixels$^k$, "
        f"fitted to the {FITTED} largest sizes\nLimits: {limits['seconds']:.0f} s per pass, "
        f"{limits['megabytes'] / 1000:.0f} GB; hollow: extrapolated, not measured"
    )
    fig.savefig(figure, dpi=110, metadata={"Software": None})
    pyplot.close(fig)


@click.command()
@click.option("--sizes", multiple=True, type=int, default=SIZES, show_default=True)
@click.option("--mixers", multiple=True, type=click.Choice(MIXERS), default=MIXERS)
@click.option("--passes", multiple=True, type=click.Choice(PASSES), default=PASSES)
@click.option("--rounds", default=3, show_default=True, help="Measurements of each; 0 only draws.")
@click.option("--time-limit", default=300.0, show_default=True, help="Seconds per pass, at most.")
@click.option("--memory-limit", default=16.0, show_default=True, help="GB per pass, at most.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/scaling.jsonl"),
              show_default=True, help="File of the measurements.")  # fmt: skip
@click.option("--figure", default="docs/scaling.png", show_default=True, help="File; empty: none.")
def main(
    sizes: tuple[int, ...],
    mixers: tuple[str, ...],
    passes: tuple[str, ...],
    rounds: int,
    time_limit: float,
    memory_limit: float,
    cache: Path,
    figure: str,
) -> None:
    """Measure what is missing, draw the figure, print the tables."""
    results = Results(cache)
    limits = {"seconds": time_limit, "megabytes": 1000 * memory_limit}
    for _ in range(rounds):
        for size in sorted(sizes):
            for mixer in mixers:
                todo = [
                    name
                    for name in passes
                    if not results.enough((mixer, size, name), rounds)
                    and not left_out(results, (mixer, size, name), limits)
                ]
                if todo:
                    results.add(measure_fresh(mixer, size, todo))
                    click.echo(f"{mixer} {size} {' '.join(todo)}", err=True)
    if not results.rows:
        raise click.ClickException(f"{cache} has no measurements; give --rounds 1 or more")
    if figure:
        draw(results, limits, Path(figure))
    click.echo("\n".join(tables(results, limits)))


if __name__ == "__main__":
    main()
