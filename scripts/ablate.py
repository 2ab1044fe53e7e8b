"""Train the stylizer once with each mixer, and compare the results.

python scripts/ablate.py --data ../shared/data --prepared runs/prepared \
    --vgg ../shared/data/nets/vgg19_relu3_1.safetensors --output runs/ablation

All variants have the same batches, seed and steps. The depth of `conv` is chosen to match the
number of parameters of `whole`, that of `conv-time` to match its time; both are measured here. A
variant that is already in OUTPUT is not trained again. The table lists the validation losses of
the averaged weights.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

from clipmamba.models.second_design import SecondConfig, SecondStylizer
from clipmamba.train.log import read_log

SCRIPTS = Path(__file__).parent
VARIANTS = ("whole", "conv", "conv-time", "attention")
DEPTHS = range(2, 16)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--prepared", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--vgg", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/ablation"))
@click.option("--steps", default=4000, show_default=True, help="Steps of each variant.")
@click.option("--batch", default=8, show_default=True)
@click.option("--size", default=512, show_default=True, help="Side of the timed photo.")
@click.option("--only", multiple=True, type=click.Choice(VARIANTS), help="Variants to train.")
@click.option(
    "--launch", default=sys.executable, show_default=True, help="Launcher of the training script."
)
def main(
    data: Path, prepared: Path, vgg: Path, output: Path, steps: int, batch: int, size: int,
    only: tuple[str, ...], launch: str,
) -> None:  # fmt: skip
    """Train every variant, then print one table."""
    if not (prepared / "validation").is_dir():
        raise click.ClickException(f"{prepared} has no validation pictures; prepare it again")
    exact = "1" if (prepared / "painters").is_dir() else "0"
    depths = choose_depths(size)
    rows = []
    for name in only or VARIANTS:
        run = output / name
        mixer = {"whole": "mamba", "attention": "attention"}.get(name, "conv")
        if not (run / "stylizer").is_dir():
            command = [*launch.split(), str(SCRIPTS / "train_stylizer.py"), "train"]
            command += ["--data", str(data), "--prepared", str(prepared), "--vgg", str(vgg)]
            command += ["--output", str(run), "--steps", str(steps), "--batch", str(batch)]
            command += ["--mixer", mixer, "--depth", str(depths[name]), "--validate-every", "500"]
            command += ["--exact", exact, "--sample-every", "0"]
            subprocess.run(command, check=True)
        stylizer = SecondStylizer.from_pretrained(run / "stylizer").eval()
        last = list(read_log(run / "validation.jsonl"))[-1]
        rows.append(
            {"variant": name, "depth": stylizer.config.depth, "millions": millions(stylizer),
             "seconds": seconds(stylizer, size), **last}
        )  # fmt: skip
        click.echo(json.dumps(rows[-1]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.json").write_text(json.dumps(rows, indent=1) + "\n")


def choose_depths(size: int) -> dict[str, int]:
    """Choose the depth of each variant."""
    whole = SecondStylizer().eval()
    wanted, took = millions(whole), seconds(whole, size)
    convs = {depth: SecondStylizer(SecondConfig(mixer="conv", depth=depth)) for depth in DEPTHS}
    attention = {d: SecondStylizer(SecondConfig(mixer="attention", depth=d)) for d in DEPTHS}
    return {
        "whole": whole.config.depth,
        "conv": min(DEPTHS, key=lambda depth: abs(millions(convs[depth]) - wanted)),
        "conv-time": min(DEPTHS, key=lambda depth: abs(seconds(convs[depth], size) - took)),
        "attention": min(DEPTHS, key=lambda depth: abs(millions(attention[depth]) - wanted)),
    }


def millions(stylizer: SecondStylizer) -> float:
    """Return the number of parameters in millions."""
    return sum(parameter.numel() for parameter in stylizer.parameters()) / 1e6


@torch.no_grad()
def seconds(stylizer: SecondStylizer, size: int) -> float:
    """Return the median seconds of five passes over a photo of `size` pixels."""
    stylizer = stylizer.eval().to(memory_format=torch.channels_last)
    photo, style = torch.rand(1, 3, size, size), torch.rand(1, stylizer.config.style_dim)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        stylizer(photo, style)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
