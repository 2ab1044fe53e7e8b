"""Restyle a folder, parquet files or webdataset shards on a Ray cluster, into webdataset shards.

    python scripts/stylize_dataset.py --data PHOTOS --output runs/ukiyo-e --prompt "ukiyo-e"

Without `--address` the cluster is this machine. Give the same command again to go on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import ray

from clipmamba.errors import ClipmambaError
from clipmamba.files import one_line
from clipmamba.integrations.dataset import EXTENSIONS, begin_run, list_parts
from clipmamba.integrations.ray import CORES, Actors, restyle_dataset


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True,
              help="Folder of pictures, *.parquet or *.tar.")  # fmt: skip
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder for the shards; all machines must see it.")  # fmt: skip
@click.option("-p", "--prompt", multiple=True, required=True, help="Words for the style.")
@click.option("--strength", default=1.0, show_default=True)
@click.option("--seed", type=int, help="Chooses among the variants of the words.")
@click.option("--max-size", type=int, help="Longest side of the results in pixels.")
@click.option("--model", type=click.Path(exists=True, file_okay=False), help="Folder of a model.")
@click.option("--format", "file_format", type=click.Choice(list(EXTENSIONS)), default="jpeg",
              show_default=True)  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), help="Of the encoder.")
@click.option("--column", default="image", show_default=True, help="Of parquet: bytes of files.")
@click.option("--files-per-part", default=256, show_default=True, help="Of a folder's pictures.")
@click.option("--cores", default=CORES, show_default=True, help="Cores of an actor.")
@click.option("--address", help="Of a running Ray cluster; `auto` finds it.")
@click.option("--num-cpus", type=int, help="Cores that a cluster of this machine alone uses.")
def main(
    data: Path,
    output: Path,
    prompt: tuple[str, ...],
    strength: float,
    seed: int | None,
    max_size: int | None,
    model: str | None,
    file_format: str,
    quality: int | None,
    column: str,
    files_per_part: int,
    cores: int,
    address: str | None,
    num_cpus: int | None,
) -> None:
    """Restyle a data set; exit code 1 if some pictures failed."""
    style = {"prompt": list(prompt), "strength": strength, "seed": seed, "max_size": max_size}
    options = {"style": style, "model": model, "file_format": file_format, "quality": quality}
    output = output.resolve()
    try:
        parts = list_parts(data.resolve(), files_per_part, column)
        left = begin_run(output, parts, options)
    except ClipmambaError as error:
        raise click.UsageError(one_line(error)) from error
    print(f"{len(left)} of {len(parts)} parts to do", flush=True)
    if left:
        ray.init(address=address, num_cpus=num_cpus, include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        actors = Actors.of_cluster(cores)
        print(f"{actors.count} actors, {actors.cores} cores and {actors.gpus} GPUs each")
        reports = restyle_dataset(left, output, actors, **options)
        seconds = max(r["ended"] for r in reports) - min(r["began"] for r in reports)
        count = sum(report["restyled"] for report in reports)
        print(f"{count} restyled in {seconds:.1f} s, {count / max(seconds, 1e-9):.2f} per second")
    failed = 0
    for file in sorted(output.glob("part-*.failures.jsonl")):
        failed += len(file.read_text(encoding="utf-8").splitlines())
    print(f"{failed} failed; part-*.failures.jsonl in {output} say which and why")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
