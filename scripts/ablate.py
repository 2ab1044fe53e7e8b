"""Trains the stylizer again and again, each time without one part, and compares the results.

python scripts/ablate.py --data ../shared/data --pairs runs/pairs --output runs/ablation

Every variant has the same pairs, seed, steps and about as many parameters (3.25 to 3.6 million).
PAIRS holds all three kinds, the style network's included. A variant that is already in OUTPUT is
kept.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from clipmamba.clip import Clip
from clipmamba.models import Stylizer
from clipmamba.pipelines import StylizePipeline
from clipmamba.styles import StylePrior

SCRIPTS = Path(__file__).parent
SHARED = (
    "--teacher-share 2 --painter-share 3 --style-share 3 --pixel 1 --distil 1 --statistics 5 "
    "--recognition 0.5 --content 0.5 --directional 0.3 --contrastive 0.1 --tiles 2 --side 96 "
    "--batch 8 --learning-rate 1e-3 --warmup 40 --ema 0.99 --workers 0 --sample-every 0"
)
VARIANTS = {
    "whole": "",
    "without-distillation": "--teacher-share 0",
    "without-painters": "--painter-share 0",
    "without-contrast": "--contrastive 0",
    "without-bend": "--no-bend",
    "conv": "--mixer conv --depth 6",
    "attention": "--mixer attention --depth 6",
}


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--pairs", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/ablation"))
@click.option("--steps", default=400, show_default=True, help="Of each variant, from nothing.")
@click.option("--precision", default="bf16", show_default=True)
@click.option("--launch", default=sys.executable, show_default=True, help="What runs a script.")
def main(data: Path, pairs: Path, output: Path, steps: int, precision: str, launch: str) -> None:
    """Train every variant, then measure them in one table."""
    folders, trained = [], []
    for name, change in VARIANTS.items():
        run, folder = output / f"{name}-run", output / name
        folders += ["--model", f"{name}={folder}"]
        if folder.is_dir():
            continue
        trained += ["--again", name]
        command = [*launch.split(), str(SCRIPTS / "train_stylizer.py"), "train"]
        command += ["--pairs", str(pairs), "--output", str(run), "--steps", str(steps)]
        command += ["--precision", precision, *SHARED.split(), *change.split()]
        subprocess.run(command, check=True)
        stylizer = Stylizer.from_pretrained(run / "stylizer")
        StylizePipeline(stylizer, Clip.from_pretrained(), StylePrior.load()).save_pretrained(folder)
        count = sum(parameter.numel() for parameter in stylizer.parameters())
        click.echo(f"{name}: {count / 1e6:.2f} M parameters")
    judge = [sys.executable, str(SCRIPTS / "evaluate.py"), "--data", str(data), *folders, *trained]
    subprocess.run([*judge, "--output", str(output / "table")], check=True)


if __name__ == "__main__":
    main()
