"""Upload a saved pipeline to the Hugging Face Hub, with its model card and hashes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from clipmamba.errors import InputError, WeightsError
from clipmamba.hub import HubName
from clipmamba.hub_access import LOG_IN, hub_errors, knock, make_repository, offline
from clipmamba.pipelines.card import find_metrics, read_metrics, write_card
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import (
    CARD,
    FILES,
    METRICS,
    SavedPipeline,
    check_hashes,
    names_a_folder,
    read_index,
)
from clipmamba.weights import MANIFEST, Weights, measure

_ABOUT = {
    "stylizer": "the network that restyles a photo",
    "prior": "from where words lie to where pictures of that style lie",
}


def publish(
    folder: str | Path,
    name: HubName,
    license_id: str,
    *,
    private: bool | None = None,
    metrics: str | Path | None = None,
) -> str:
    """Upload a saved pipeline to the Hub in one commit, after loading it strictly.

    The commit goes to the main branch; a revision becomes its tag. The folder's README.md is
    uploaded if there is one; otherwise a model card is generated from the recorded metrics.

    Args:
        folder: Written by :meth:`StylizePipeline.save_pretrained`.
        name: The repository, created if missing, and the tag.
        license_id: The Hub's identifier of the license of the weights, such as "apache-2.0".
        private: Whether a new repository is private; None for the account's default. True refuses
            a public one that exists.
        metrics: A JSON file of metrics, such as a row of scripts/evaluate.py, to upload as
            metrics.json.

    Returns:
        The address of the commit.

    Raises:
        InputError: The tag exists already; the repository is public although `private` is True;
            the metrics file does not exist.
        WeightsError: The pipeline does not load or needs a CLIP folder of this machine; there is
            no token; the Hub can't be reached or refuses.
    """
    import huggingface_hub as hub

    problem = f"can't push {name}"
    pipeline = read_index(Path(folder))
    if names_a_folder(pipeline.clip):
        raise WeightsError(
            f"{problem}: the pipeline was trained with the CLIP folder {pipeline.clip}, which no "
            "other machine has; upload that folder to the Hub and name it in model_index.json: "
            "hf-hub:org/name"
        )
    if offline():
        raise WeightsError(f"{problem}: the network is forbidden; unset HF_HUB_OFFLINE")
    if hub.get_token() is None:
        raise WeightsError(f"{problem} without a token: {LOG_IN}")
    check_hashes(pipeline.folder)
    files = _collect(name, license_id, pipeline, None if metrics is None else Path(metrics))
    StylizePipeline.from_pretrained(pipeline.folder, "cpu")
    knock(problem, "try again with a network")
    api = hub.HfApi()
    repo = make_repository(api, name.repo, private, problem)
    with hub_errors(problem):
        tags = {ref.name for ref in api.list_repo_refs(repo).tags}
    if name.revision in tags:
        raise InputError(f"{problem}: it exists already, and a tag never moves; choose another")
    with hub_errors(problem):
        commit = api.create_commit(
            repo,
            [hub.CommitOperationAdd(place, content) for place, content in files.items()],
            commit_message=f"clipmamba models push {name}",
        )
        if name.revision is not None:
            api.create_tag(repo, tag=name.revision, revision=commit.oid)
    return str(commit.commit_url)


def _collect(
    name: HubName, license_id: str, pipeline: SavedPipeline, metrics: Path | None
) -> dict[str, bytes | Path]:
    """Collect the files to upload, by path in the repository: contents or local paths.

    Raises:
        InputError: The metrics file does not exist.
        WeightsError: A metrics file can't be used.
    """
    folder = pipeline.folder
    if metrics is not None and not metrics.is_file():
        raise InputError(f"no such file: {metrics}")
    recorded = find_metrics(folder) | ({} if metrics is None else {METRICS: metrics})
    values = {place: read_metrics(file) for place, file in recorded.items()}
    licenses = {file.name: file for file in folder.glob("LICENSE*")}
    weights = _measure(folder, license_id)
    if (folder / CARD).is_file():
        card = (folder / CARD).read_bytes()
    else:
        card = write_card(name, license_id, pipeline, weights, values).encode()
    manifest = json.dumps([asdict(entry) for entry in weights], indent=2)
    return {
        **{place: folder / place for place in FILES},
        **recorded,
        **licenses,
        MANIFEST: manifest.encode(),
        CARD: card,
    }


def _measure(folder: Path, license_id: str) -> Sequence[Weights]:
    """Make the entries of the manifest."""
    entries = []
    for place in FILES:
        if place.endswith(".safetensors"):
            part, file = place.split("/")
            size, digest = measure(folder / place)
            entries.append(Weights(part, file, size, digest, license_id, _ABOUT[part]))
    return entries
