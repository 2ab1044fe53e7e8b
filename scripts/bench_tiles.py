"""Measure time and peak memory of the command on a large photo, in tiles and whole.

    python scripts/bench_tiles.py --megapixels 60 --tile auto
    python scripts/bench_tiles.py --megapixels 4 --tile auto --tile off --tile 512

The photo is one of the README's, enlarged, as a JPEG file. Peak memory is the peak of the
process's resident set. Linux only.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from PIL import Image

PHOTO = Path(__file__).parent.parent / "assets/photos/pagoda.jpg"


def measure(photo: Path, result: Path, tile: str) -> tuple[float, float]:
    """Run the command and return its seconds and peak GiB."""
    command = [sys.executable, "-m", "clipmamba", "stylize", str(photo), "-p", "watercolor"]
    command += ["--tile", tile, "-o", str(result), "--overwrite"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        peak = max(peak, int(lines.get("VmHWM", "0 kB").split()[0]))
        time.sleep(0.05)
    if process.returncode:
        raise click.ClickException(f"the command failed with exit code {process.returncode}")
    return time.monotonic() - began, peak / 2**20


@click.command()
@click.option("--megapixels", default=60.0, show_default=True, help="Size of the photo.")
@click.option("--tile", "tiles", multiple=True, default=("auto",), show_default=True)
def main(megapixels: float, tiles: tuple[str, ...]) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder, Image.open(PHOTO) as opened:
        scale = math.sqrt(megapixels * 1e6 / (opened.width * opened.height))
        size = (round(opened.width * scale), round(opened.height * scale))
        photo = Path(folder) / "photo.jpg"
        opened.resize(size, Image.Resampling.BICUBIC).save(photo, quality=95)
        print(f"{size[0]} x {size[1]} pixels")
        print("| tile | seconds | peak GiB |\n|---|---|---|")
        for tile in tiles:
            seconds, peak = measure(photo, Path(folder) / "result.jpg", tile)
            print(f"| {tile} | {seconds:.0f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
