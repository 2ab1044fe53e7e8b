"""Compare an exported file in ONNX Runtime with torch: results and speed, in one process.

clipmamba export stylizer.onnx
python scripts/bench_export.py stylizer.onnx
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F

from clipmamba import StylizePipeline
from clipmamba.models.gamut import into_gamut

PAUSE = 0.3  # seconds before each call, in which the other library's threads fall asleep


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=7, show_default=True, help="Timed calls of each.")
@click.option(
    "--model",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the model that FILE was exported from, if not the default weights.",
)
@torch.no_grad()
def main(file: Path, rounds: int, folder: Path | None) -> None:
    """Compare FILE, exported without a style, with the network that it was exported from."""
    pipeline = StylizePipeline.from_pretrained(folder, device="cpu")
    stylizer = pipeline.stylizer
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options)
    print("| picture | torch, ms | ONNX Runtime, ms | ratio | largest difference |")
    print("|---|---|---|---|---|")
    for height, width in ((61, 45), (256, 256), (384, 512)):
        photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        style = F.normalize(torch.ones(1, stylizer.config.style_dim), dim=1)
        margin = stylizer.margin  # the file adds and removes it itself
        model = pipeline.network_for(max(height, width))
        noise = stylizer.draw_noise(height + 2 * margin, width + 2 * margin)
        padded = F.pad(photo, (margin,) * 4, mode="replicate")
        given = {"photo": photo.numpy(), "noise": noise.numpy(), "style": style.numpy()}
        given["stroke"] = np.ones(1, np.float32)
        calls: dict[str, Callable[[], Any]] = {
            "torch": lambda model=model, p=padded, s=style, n=noise, m=margin: into_gamut(
                model(p, s, n)[..., m:-m, m:-m]
            ),
            "onnx": lambda given=given: session.run(None, given)[0],
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        results = {}
        for _ in range(rounds + 1):
            for name, call in calls.items():
                time.sleep(PAUSE)
                begun = time.perf_counter()
                results[name] = torch.as_tensor(call())
                times[name].append(time.perf_counter() - begun)
        slow, fast = (statistics.median(times[name][1:]) for name in ("onnx", "torch"))
        difference = (results["onnx"] - results["torch"]).abs().max()
        print(
            f"| {width} × {height} | {fast * 1e3:.0f} | {slow * 1e3:.0f} | {slow / fast:.1f} "
            f"| {difference:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
