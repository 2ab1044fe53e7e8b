"""Compare the throughput of Ray workers with that of as many plain processes.

    python scripts/bench_dataset.py [--workers 2] [--photos 96] [--part 16] [--side 512]

All have one core and restyle the same photos, part by part, with the default weights. The start
of the workers is not counted. Run it on an idle machine. The exit code is 1 if Ray's throughput is
below 0.9 of that of the processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image, ImageOps

from clipmamba.integrations.dataset import Part, finish_run, list_parts
from clipmamba.integrations.ray import (
    Actors,
    PartReport,
    RestyleParts,
    RestyleSettings,
    pictures_per_second,
    restyle_dataset,
)
from clipmamba.styles.request import StyleRequest

ASSETS = Path(__file__).parent.parent / "assets" / "photos"
SETTINGS = RestyleSettings(StyleRequest.parse("ukiyo-e"))
BAR = 0.9


def main() -> None:
    """Run the rounds, print them and their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--part", type=int, default=16, help="photos per part")
    parser.add_argument("--side", type=int, default=512, help="of the square photos")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - the priority of the processes
    os.environ["OMP_NUM_THREADS"] = "1"  # Ray sets it for its workers
    import ray.data

    ray.init(num_cpus=options.workers, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rates: dict[str, list[float]] = {"processes": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder, "in"), options.photos, options.side)
        parts = list_parts(photos, options.part)
        for turn in range(options.rounds):
            for name, run in (("processes", run_processes), ("ray", run_ray)):
                output = Path(folder, f"{name}-{turn}")
                output.mkdir()
                reports = run(parts, output, options.workers)
                if finish_run(output, parts) != (0, 0):
                    sys.exit(f"{name}: parts are missing or pictures failed")
                rates[name].append(pictures_per_second(reports))
                print(f"round {turn + 1}, {name}: {rates[name][-1]:.3f} photos per second")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = medians["ray"] / medians["processes"]
    print(f"medians: {medians}; Ray reaches {ratio:.3f} of the processes (bar {BAR})")
    sys.exit(ratio < BAR)


def write_photos(folder: Path, count: int, side: int) -> Path:
    """Write square crops of the photos in assets/, in turn."""
    folder.mkdir()
    files = sorted(ASSETS.glob("*.jpg"))
    for number in range(count):
        with Image.open(files[number % len(files)]) as photo:
            ImageOps.fit(photo, (side, side)).save(folder / f"{number:05d}.jpg")
    return folder


def run_ray(parts: Sequence[Part], output: Path, workers: int) -> list[PartReport]:
    """Restyle parts by actors of one core."""
    return restyle_dataset(parts, output, Actors(workers, 0, 1), SETTINGS)


def run_processes(parts: Sequence[Part], output: Path, workers: int) -> list[PartReport]:
    """Restyle parts by processes of one thread that know nothing of each other."""
    shares = [parts[number::workers] for number in range(workers)]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        runs = [pool.submit(restyle_share, share, str(output)) for share in shares]
        return [report for run in runs for report in run.result()]


def restyle_share(parts: Sequence[Part], output: str) -> list[PartReport]:
    """Restyle parts in this process."""
    worker = RestyleParts(output, settings=SETTINGS, threads=1, device="cpu")
    return [worker.restyle_part(part) for part in parts]


if __name__ == "__main__":
    main()
