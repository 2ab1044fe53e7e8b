"""Data sets restyled on many machines, with Ray Data (extra `ray`).

`RestyleBatch` restyles a column of picture files and fits any Ray data set; `restyle_dataset`
restyles whole parts of a data set on disk, with one actor per GPU or per two cores.
"""

from __future__ import annotations

import dataclasses
import io
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipmamba.errors import InputError
from clipmamba.integrations.dataset import EXTENSIONS, Part, restyle_part, try_restyle
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.styles.request import StyleRequest

CORES = 2  # of an actor without a GPU
TASKS = 10_000  # at most; each has one part or several


@dataclasses.dataclass(frozen=True)
class RestyleSettings:
    """What the results depend on.

    Attributes:
        style: The style.
        options: Strength and the other options; one variant.
        model: A saved pipeline's folder or a model of the Hub; None for the default weights.
        file_format: Format of the results: "jpeg", "png" or "webp".
        quality: 1 to 100; None for the format's own.

    Raises:
        InputError: The format or quality is unknown, or there are several variants.
    """

    style: StyleRequest
    options: StylizeOptions = dataclasses.field(default_factory=StylizeOptions)
    model: str | None = None
    file_format: str = "jpeg"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.file_format not in EXTENSIONS:
            names = ", ".join(EXTENSIONS)
            raise InputError(f"the format must be one of {names}, not {self.file_format!r}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InputError(f"quality must be from 1 to 100, not {self.quality}")
        if self.options.variants != 1:
            raise InputError("a data set is restyled in one variant; run again with another seed")


class RestyleBatch:
    """Actor for `Dataset.map_batches` that adds restyled files to batches of picture files.

        settings = RestyleSettings(StyleRequest.parse("ukiyo-e"))
        dataset.map_batches(
            RestyleBatch, fn_constructor_kwargs={"settings": settings, "threads": 2},
            batch_size=16, compute=ray.data.ActorPoolStrategy(size=4), num_cpus=2,
        )

    Args:
        settings: Style, options, model and format.
        column: Column with the bytes of picture files.
        threads: Threads of the network on a CPU; None leaves torch's number.
        device: "auto" is the GPU that Ray gives the actor, otherwise the CPU.

    Raises:
        InputError: The style can't be used.
        WeightsError: Weights are missing or damaged.
    """

    def __init__(
        self,
        settings: RestyleSettings,
        column: str = "image",
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        import torch

        from clipmamba.pipelines import StylizePipeline

        if threads is not None:
            torch.set_num_threads(threads)
        self.settings = settings
        self.column = column
        self.pipeline = StylizePipeline.from_pretrained(settings.model, device)
        self.style = self.pipeline.prepare(settings.style, settings.options.seeds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the columns `restyled` (bytes, empty if it failed) and `error` ("" if not)."""
        results: list[bytes] = []
        errors: list[str] = []
        for data in batch[self.column]:
            result, problem = try_restyle(self.restyle, data)
            results.append(result)
            errors.append(problem)
        return {**batch, "restyled": np.array(results, object), "error": np.array(errors, object)}

    def restyle(self, data: bytes | Path) -> bytes:
        """Restyle one picture file.

        Raises:
            InputError: It can't be read, or the result can't be written in the format.
        """
        from clipmamba.io import read_picture, write_picture

        settings = self.settings
        photo = read_picture(data)
        [image] = self.pipeline.restyle([photo], self.style, settings.options).images
        file = io.BytesIO()
        write_picture(image, file, file_format=settings.file_format, quality=settings.quality)
        return file.getvalue()


@dataclasses.dataclass(frozen=True)
class PartReport:
    """A worker's report of a part.

    Attributes:
        part: Number of the part.
        restyled: Number of pictures restyled.
        failed: Number of pictures that failed.
        worker: The worker, as machine and process.
        began: Unix time of the start.
        ended: Unix time of the end.
    """

    part: int
    restyled: int
    failed: int
    worker: str
    began: float
    ended: float


class RestyleParts(RestyleBatch):
    """Actor that restyles parts of a data set from disk to disk; no picture passes through Ray.

    Args:
        output: Folder for the shards, on a file system that all machines share.
        options: Arguments of `RestyleBatch`.
    """

    def __init__(self, output: str, **options: Any) -> None:
        super().__init__(**options)
        self.output = Path(output)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Restyle the parts in the column `part`, as JSON; return their reports as columns."""
        parts = [Part.from_json(text) for text in batch["part"]]
        rows = [dataclasses.asdict(self.restyle_part(part)) for part in parts]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def restyle_part(self, part: Part) -> PartReport:
        """Restyle a part, unless its shard exists."""
        began = time.time()
        extension = EXTENSIONS[self.settings.file_format]
        restyled, failed = restyle_part(part, self.output, self.restyle, extension)
        worker = f"{platform.node()}:{os.getpid()}"
        return PartReport(part.number, restyled, failed, worker, began, time.time())


@dataclasses.dataclass(frozen=True)
class Actors:
    """The workers of a run.

    Attributes:
        count: Number of actors.
        gpus: GPUs of each.
        cores: CPU cores of each.
    """

    count: int
    gpus: int
    cores: int

    @classmethod
    def of_cluster(cls, cores: int = CORES) -> Actors:
        """One per GPU of the running cluster; without GPUs, one per `cores` cores of a machine."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        machines = [(int(node.get("GPU", 0)), int(node.get("CPU", 0))) for node in nodes]
        if with_gpu := [machine for machine in machines if machine[0]]:
            fewest = min(processors // gpus for gpus, processors in with_gpu)
            return cls(sum(gpus for gpus, _ in with_gpu), 1, min(cores, fewest))
        counts = [processors for _, processors in machines if processors]
        cores = min(cores, *counts)
        return cls(sum(count // cores for count in counts), 0, cores)


def restyle_dataset(
    parts: Sequence[Part], output: Path, actors: Actors, settings: RestyleSettings
) -> list[PartReport]:
    """Restyle parts on the running Ray cluster.

    When a worker dies, Ray starts it again with the part that it was at; see `restyle_part`. A part
    that raises an error is left out; see `finish_run`.

    Args:
        parts: Parts to restyle, such as those that `begin_run` returns.
        output: Folder for the shards, on a file system that all machines share.
        actors: The workers.
        settings: Style, options, model and format.

    Returns:
        The reports of the parts, in any order.
    """
    import ray.data

    if not parts:
        return []
    ray.data.DataContext.get_current().max_errored_blocks = -1  # the other parts go on
    items = [{"part": part.to_json()} for part in parts]
    reports = ray.data.from_items(items, override_num_blocks=min(len(parts), TASKS)).map_batches(
        RestyleParts,
        fn_constructor_kwargs={
            "output": str(output), "settings": settings, "threads": max(1, actors.cores),
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(actors.count, len(parts)),
            max_tasks_in_flight_per_actor=1,  # none waits behind another while an actor idles
        ),
        num_cpus=actors.cores,
        num_gpus=actors.gpus,
    )  # fmt: skip
    return [PartReport(**row) for row in reports.iter_rows()]


def pictures_per_second(reports: Sequence[PartReport]) -> float:
    """Sum the workers' throughputs, without the time in which they start."""
    total = 0.0
    for worker in {report.worker for report in reports}:
        mine = [report for report in reports if report.worker == worker]
        seconds = max(r.ended for r in mine) - min(r.began for r in mine)
        total += sum(r.restyled for r in mine) / max(seconds, 1e-9)
    return total
