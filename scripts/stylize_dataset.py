"""Restyle a folder, parquet files or webdataset shards on a Ray cluster, into webdataset shards.

    python scripts/stylize_dataset.py --data PHOTOS --output runs/ukiyo-e --prompt "ukiyo-e"

Without `--address` the cluster is this machine. Give the same command again to resume.
"""

from __future__ import annotations

import dataclasses
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from clipmamba.errors import ClipmambaError
from clipmamba.files import one_line, reason
from clipmamba.integrations.dataset import EXTENSIONS, Part, begin_run, finish_run, list_parts
from clipmamba.integrations.ray import (
    CORES,
    Actors,
    RestyleSettings,
    pictures_per_second,
    restyle_dataset,
)
from clipmamba.pipelines import StylizeOptions
from clipmamba.pipelines.saved import read_index
from clipmamba.styles.request import StyleRequest

PATIENCE = 10  # seconds
LAST_PORT = 65535


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True,
              help="Folder of pictures, of parquet files or of webdataset shards.")  # fmt: skip
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder for the shards, on a file system that all machines share.")  # fmt: skip
@click.option("-p", "--prompt", multiple=True, required=True, help="Style in words; repeat to mix.")
@click.option("--strength", default=1.0, show_default=True, help="0 to 1.5.")
@click.option("--preserve-color/--no-preserve-color", default=StylizeOptions.preserve_color,
              help="Keep the photo's colors, or take the style's. By default, styles without a "
              "palette of their own, such as watercolor, keep most of them.")  # fmt: skip
@click.option("--seed", type=int, help="Selects among the variants of the prompt.")
@click.option("--max-size", type=int, help="Longest side of the results in pixels.")
@click.option("--model", metavar="DIR|NAME", help="Saved pipeline or model of the Hub.")
@click.option("--format", "file_format", type=click.Choice(list(EXTENSIONS)), default="jpeg",
              show_default=True, help="Format of the results.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), help="Encoder quality.")
@click.option("--column", default="image", show_default=True,
              help="Column of parquet files with the bytes of picture files.")  # fmt: skip
@click.option("--files-per-part", type=click.IntRange(min=1), default=256, show_default=True,
              help="Pictures of a folder that a worker restyles in one go.")  # fmt: skip
@click.option("--cores", type=click.IntRange(min=1), default=CORES, show_default=True,
              help="CPU cores per actor.")  # fmt: skip
@click.option("--address", help="Address of a running Ray cluster; `auto` finds it.")
@click.option("--num-cpus", type=click.IntRange(min=1),
              help="Cores to use without --address. By default all.")  # fmt: skip
def main(
    data: Path,
    output: Path,
    prompt: tuple[str, ...],
    strength: float,
    preserve_color: bool | None,
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
    """Restyle a data set; the exit code is 1 if pictures failed or parts are missing."""
    output = output.resolve()
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())  # workers have other working folders
    if address is not None and num_cpus is not None:
        raise click.UsageError("--num-cpus is for runs without --address; leave one out")
    if address is not None:
        check_reachable(address)
    try:
        options = StylizeOptions(strength, preserve_color, seed=seed, max_size=max_size)
        style = StyleRequest.parse(prompt)
        settings = RestyleSettings(style, options, model, file_format, quality)
        if model is not None:
            read_index(model)  # what is wrong with it is said once, not by every worker
        parts = list_parts(data.resolve(), files_per_part, column, output)
        recorded: dict[str, Any] = {"prompt": prompt, **dataclasses.asdict(options)}
        recorded |= {"model": model, "format": file_format, "quality": quality}
        remaining = begin_run(output, parts, recorded)
    except ClipmambaError as error:
        raise click.UsageError(one_line(error)) from error
    print(f"{len(remaining)} of {len(parts)} parts to restyle", flush=True)
    if remaining:
        _restyle(remaining, output, settings, cores, {"address": address, "num_cpus": num_cpus})
    missing, failed = finish_run(output, parts)
    if missing:
        print(f"{missing} parts are missing; see Ray's log, and give the same command again")
    if failed:
        print(f"{failed} pictures failed; {output}/part-*.failures.jsonl list them")
    sys.exit(1 if missing or failed else 0)


def check_reachable(address: str) -> None:
    """Refuse the address of a machine that does not answer, which Ray would wait for.

    Raises:
        click.UsageError: Nothing answers within `PATIENCE` seconds.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal() or int(port) > LAST_PORT:
        return  # "auto" and the like, which Ray checks
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        raise click.UsageError(f"no Ray cluster answers at {address}: {reason(error)}") from error


def _restyle(
    parts: Sequence[Part],
    output: Path,
    settings: RestyleSettings,
    cores: int,
    cluster: dict[str, Any],
) -> None:
    import ray.data

    try:
        ray.init(**cluster, include_dashboard=False)
    except (ConnectionError, ValueError) as error:  # no cluster is there, or it is no address
        raise click.UsageError(one_line(error)) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    actors = Actors.of_cluster(cores)
    print(f"actors: {actors.count}, each with {actors.cores} cores and {actors.gpus} GPUs")
    start = time.monotonic()
    reports = restyle_dataset(parts, output, actors, settings)
    count = sum(report.restyled for report in reports)
    print(
        f"{count} pictures restyled in {time.monotonic() - start:.1f} s, start included; "
        f"{pictures_per_second(reports):.2f} per second without it"
    )


if __name__ == "__main__":
    main()
