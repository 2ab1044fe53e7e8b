"""Restyle data sets on many machines with Ray Data (extra `ray`).

`RestyleBatch` restyles a column of picture files and fits any Ray data set; `restyle_dataset` has
one actor per GPU, or per two cores, restyle whole parts of a data set on disk.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipmamba.errors import ClipmambaError, InputError
from clipmamba.files import one_line
from clipmamba.integrations.dataset import EXTENSIONS, Part, restyle_part

CORES = 2  # of an actor without a GPU
_OF_STYLE = (  # keywords that say the style; it is found once, not for each picture
    "prompt", "style_image", "style", "avoid", "source", "templates", "mask", "regions",
)  # fmt: skip


class RestyleBatch:
    """Actor of `Dataset.map_batches`: adds the restyled files to batches of picture files.

        dataset.map_batches(
            RestyleBatch, fn_constructor_kwargs={"style": {"prompt": "ukiyo-e"}},
            batch_size=16, concurrency=4, num_cpus=2,
        )

    Args:
        style: Keywords of `StylizePipeline.__call__` besides the pictures: `prompt`, `strength`, …
        model: A folder of `save_pretrained`; None for the default weights.
        column: Column with the bytes of picture files.
        file_format: Of the results: "jpeg", "png" or "webp".
        quality: 1 to 100; None for the format's own.
        threads: Threads of the network on a CPU; None leaves torch's number.
        device: "auto" is the GPU that Ray lends the actor, else the CPU.

    Raises:
        InputError: An option can't be used.
        WeightsError: Weights are missing or damaged.
    """

    def __init__(
        self,
        style: dict[str, Any],
        model: str | None = None,
        column: str = "image",
        file_format: str = "jpeg",
        quality: int | None = None,
        threads: int | None = None,
        device: str = "auto",
    ):
        import torch

        from clipmamba.pipelines import StylizePipeline
        from clipmamba.styles.request import StyleRequest

        if file_format not in EXTENSIONS:
            names = ", ".join(EXTENSIONS)
            raise InputError(f"the format must be one of {names}, not {file_format!r}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.pipeline = StylizePipeline.from_pretrained(model, device)
        words = {name: value for name, value in style.items() if name in _OF_STYLE}
        self.options = {name: value for name, value in style.items() if name not in _OF_STYLE}
        self.style = self.pipeline.prepare(StyleRequest.parse(**words), [style.get("seed")])
        self.column = column
        self.file_format, self.quality = file_format, quality

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add `restyled` (bytes, empty where it failed) and `error` ("" where it did not)."""
        results: list[bytes] = []
        errors: list[str] = []
        for data in batch[self.column]:
            try:
                results.append(self.restyle(data))
                errors.append("")
            except ClipmambaError as error:
                results.append(b"")
                errors.append(one_line(error))
        return {**batch, "restyled": np.array(results, object), "error": np.array(errors, object)}

    def restyle(self, data: bytes | Path) -> bytes:
        """Restyle one picture file.

        Raises:
            InputError: It can't be read, or the result can't be written in the format.
        """
        from clipmamba.io import read_picture, write_picture

        [image] = self.pipeline(read_picture(data), style=self.style, **self.options).images
        file = io.BytesIO()
        write_picture(image, file, file_format=self.file_format, quality=self.quality)
        return file.getvalue()


class RestyleParts(RestyleBatch):
    """Actor that restyles parts of a data set from disk to disk; no picture goes through Ray.

    Args:
        output: Folder of the shards, which all machines see.
        options: Those of `RestyleBatch`.
    """

    def __init__(self, output: str, **options: Any):
        super().__init__(**options)
        self.output = Path(output)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A report of each part: `part`, `restyled`, `failed`, `began` and `ended` (Unix time)."""
        rows: dict[str, list[Any]] = {
            name: [] for name in ("part", "restyled", "failed", "began", "ended")
        }
        for part in batch["part"]:
            began = time.time()
            extension = EXTENSIONS[self.file_format]
            restyled, failed = restyle_part(part, self.output, self.restyle, extension)
            values = (part.number, restyled, failed, began, time.time())
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
        return {name: np.array(column) for name, column in rows.items()}


@dataclasses.dataclass(frozen=True)
class Actors:
    """How many actors there are, and what each has.

    Attributes:
        count: Actors.
        gpus: Of each.
        cores: Of each.
    """

    count: int
    gpus: int
    cores: int

    @classmethod
    def of_cluster(cls, cores: int = CORES) -> Actors:
        """One per GPU of the running cluster, or, where it has none, one per so many cores."""
        import ray

        have = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if gpus := int(have.get("GPU", 0)):
            return cls(gpus, 1, min(cores, max(1, int(have.get("CPU", 1)) // gpus)))
        cores = min(cores, max(1, int(have.get("CPU", 1))))
        return cls(max(1, int(have.get("CPU", 1)) // cores), 0, cores)


def restyle_dataset(
    parts: Sequence[Part], output: Path, actors: Actors, **options: Any
) -> list[dict[str, Any]]:
    """Restyle parts on the running Ray cluster.

    An actor that dies is started again, and its part with it: the part's shard was not there yet.

    Args:
        parts: What `begin_run` gave.
        output: Folder of the shards, which all machines see.
        actors: Workers.
        options: Those of `RestyleBatch`.

    Returns:
        The reports of `RestyleParts`, in any order.
    """
    import ray

    if not parts:
        return []
    told = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    done = told.map_batches(
        RestyleParts,
        fn_constructor_kwargs={"output": str(output), "threads": actors.cores, **options},
        batch_size=1,
        concurrency=min(actors.count, len(parts)),
        num_cpus=actors.cores,
        num_gpus=actors.gpus,
    )
    return list(done.iter_rows())
