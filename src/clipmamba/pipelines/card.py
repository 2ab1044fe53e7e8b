"""The model card of a saved pipeline, generated from its recorded values only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipmamba.errors import WeightsError
from clipmamba.files import one_line
from clipmamba.hub import HubName
from clipmamba.pipelines.saved import METRICS, SavedPipeline
from clipmamba.weights import Weights

Metrics = Mapping[str, Any]


def find_metrics(folder: Path) -> dict[str, Path]:
    """Find the metrics files of a pipeline and of its parts, by relative path."""
    files = sorted([*folder.glob(METRICS), *folder.glob(f"*/{METRICS}")])
    return {file.relative_to(folder).as_posix(): file for file in files}


def read_metrics(file: Path) -> Metrics:
    """Read a metrics file: a JSON object of names and numbers, possibly nested.

    Raises:
        WeightsError: The file can't be read or holds anything else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"can't read {file}: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"can't use {file}: it must hold one JSON object of names and values")
    return values


def write_card(
    name: HubName,
    license_id: str,
    pipeline: SavedPipeline,
    weights: Sequence[Weights],
    metrics: Mapping[str, Metrics],
) -> str:
    """Write a model card: YAML for the Hub's search, then Markdown.

    Args:
        name: The name on the Hub.
        license_id: The Hub's identifier of the license, such as "apache-2.0".
        pipeline: The pipeline's CLIP model and guidance.
        weights: Sizes and hashes of the weights files.
        metrics: Recorded metrics, by file.
    """
    from huggingface_hub import EvalResult, ModelCardData

    figures = {file: dict(_numbers(values)) for file, values in metrics.items()}
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type="clipmamba",
            dataset_name=file,
            metric_type=metric,
            metric_value=value,
        )
        for file, values in figures.items()
        for metric, value in values.items()
    ]
    front = ModelCardData(
        license=license_id,
        library_name="clipmamba",
        pipeline_tag="image-to-image",
        tags=["style-transfer", "mamba", "clip"],
        model_name=name.repo,
        eval_results=results or None,
    )
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# {name.repo}",
        "Restyles a photo from words in one pass, with clipmamba.",
        f"```sh\nclipmamba stylize photo.jpg --model {name} -p watercolor\n```",
        f"```python\nfrom clipmamba import stylize\n\n"
        f'stylize("photo.jpg", "watercolor", model="{name}").save("restyled.png")\n```',
        f"CLIP: `{pipeline.clip}`. Guidance: {pipeline.guidance:g}. License: {license_id}.",
        "## Files",
        _table(
            ("part", "file", "bytes", "SHA-256"),
            ((w.name, w.file, str(w.bytes), f"`{w.sha256}`") for w in weights),
        ),
        f"`clipmamba models verify {name}` verifies them and loads them strictly.",
        "## Metrics",
    ]
    for file, values in figures.items():
        rows = ((metric, f"{value:g}") for metric, value in values.items())
        parts += [f"From `{file}`:", _table(("metric", "value"), rows)]
    if not figures:
        parts.append("None are recorded.")
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(values: Metrics, above: str = "") -> Iterator[tuple[str, float]]:
    """Flatten nested metrics; a name inside another is "by_family.baroque"."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{above}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{above}{name}", value
