"""Send many requests to a page, and report lost ones and the page's memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from gradio_client import Client, handle_file
from PIL import Image


def memory(process: int) -> float:
    """Return the resident memory of a process in MB, on Linux."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


@click.command()
@click.option("--requests", default=200, show_default=True)
@click.option("--at-once", default=8, show_default=True)
@click.option("--side", default=64, show_default=True, help="Side of the picture, in pixels.")
@click.option("--model", type=click.Path(exists=True), help="A saved pipeline.")
def load(requests: int, at_once: int, side: int, model: str | None) -> None:
    """Start a page and send it the requests."""
    command = [sys.executable, "-m", "clipmamba", "page", *(["--model", model] if model else [])]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        failed = ask(server.stdout.readline().strip(), server.pid, requests, at_once, side)
    finally:
        server.terminate()
        server.wait()
    sys.exit(1 if failed else 0)


def ask(url: str, process: int, requests: int, at_once: int, side: int) -> int:
    """Send the requests and return the number of lost ones."""
    own = threading.local()

    def one(number: int) -> bool:
        if not hasattr(own, "client"):
            own.client = Client(url, verbose=False, download_files=folder)
        files, line = own.client.predict(
            photo=handle_file(photo), prompt="mosaic", seed=str(number), api_name="/stylize"
        )
        with Image.open(files[0]) as result:
            return result.size == (side, side) and f"--seed {number}" in line

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        photo = str(Path(folder) / "photo.png")
        Image.radial_gradient("L").convert("RGB").resize((side, side)).save(photo)
        started, lost = time.perf_counter(), 0
        for first in range(0, requests, 50):
            wanted = range(first, min(first + 50, requests))
            lost += sum(not good for good in pool.map(one, wanted))
            seconds = time.perf_counter() - started
            done = wanted.stop
            print(f"{done} requests, {lost} lost, {seconds:.0f} s, {memory(process):.0f} MB")
    return lost


if __name__ == "__main__":
    load()
