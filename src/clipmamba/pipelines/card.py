"""The card of a saved pipeline, written from what is recorded beside it and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipmamba.errors import WeightsError
from clipmamba.files import one_line
from clipmamba.hub import HubName
from clipmamba.pipelines.saved import read_index
from clipmamba.weights import Weights

METRICS = "metrics.json"
CARD = "README.md"


def read_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """The recorded metrics of a pipeline and of its parts, by the path of their file.

    Raises:
        WeightsError: A file is no JSON object.
    """
    found = {}
    for file in sorted([*folder.glob(METRICS), *folder.glob(f"*/{METRICS}")]):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"can't read {file}: {one_line(error)}") from error
        if not isinstance(values, dict):
            raise WeightsError(
                f"can't use {file}: it must hold one JSON object of names and values"
            )
        found[file.relative_to(folder).as_posix()] = values
    return found


def write_card(folder: Path, name: HubName, licence: str, weights: tuple[Weights, ...]) -> str:
    """The text of a model card: YAML for the hub's search, then Markdown.

    Args:
        folder: A saved pipeline.
        name: Where it goes on the hub.
        licence: In the hub's spelling, such as "apache-2.0".
        weights: Sizes and hashes of its files.

    Raises:
        WeightsError: The index or the metrics can't be read.
    """
    from huggingface_hub import EvalResult, ModelCardData

    clip, guidance = read_index(folder)
    metrics = read_metrics(folder)
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type="clipmamba",
            dataset_name=file,
            metric_type=metric,
            metric_value=value,
        )
        for file, values in metrics.items()
        for metric, value in _numbers(values)
    ]
    front = ModelCardData(
        license=licence,
        library_name="clipmamba",
        pipeline_tag="image-to-image",
        tags=["style-transfer", "mamba", "clip"],
        model_name=name.repo,
        eval_results=results or None,
    )
    lines = [
        f"---\n{front.to_yaml()}\n---",
        f"# {name.repo}",
        "Restyles a photo from words in one pass, with clipmamba.",
        f"```sh\nclipmamba stylize photo.jpg --model {name} -p watercolor\n```",
        f"```python\nfrom clipmamba import stylize\n\n"
        f'stylize("photo.jpg", "watercolor", model="{name}").save("restyled.png")\n```',
        f"CLIP: `{clip}`. Guidance: {guidance:g}. Licence: {licence}.",
        "## Files",
        "| part | file | bytes | SHA-256 |\n|---|---|---|---|\n"
        + "\n".join(f"| {w.name} | {w.file} | {w.bytes} | `{w.sha256}` |" for w in weights),
        f"`clipmamba models verify {name}` compares them and loads them strictly.",
        "## Figures",
        *([] if metrics else ["None are recorded."]),
    ]
    for file, values in metrics.items():
        rows = "\n".join(f"| {metric} | {value:g} |" for metric, value in _numbers(values))
        lines.append(f"From `{file}`:")
        lines.append(f"| metric | value |\n|---|---|\n{rows}")
    return "\n\n".join(lines) + "\n"


def _numbers(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested metrics; "by_family.baroque" is one inside another."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{above}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{above}{name}", value
