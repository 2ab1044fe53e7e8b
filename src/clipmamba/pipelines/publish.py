"""A saved pipeline goes to the hub: checked, with its card, its hashes and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from clipmamba.errors import InputError, WeightsError
from clipmamba.files import one_line, write_json
from clipmamba.hub import HubName
from clipmamba.hub_access import knock, offline
from clipmamba.pipelines.card import CARD, METRICS, read_metrics, write_card
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.saved import FILES, check_hashes, names_a_folder, read_index
from clipmamba.weights import MANIFEST, Weights, measure

_ABOUT = {
    "stylizer": "the network that restyles a photo",
    "prior": "from where words lie to where pictures of that style lie",
}


def publish(
    folder: str | Path,
    name: HubName,
    licence: str,
    *,
    private: bool | None = None,
    metrics: str | Path | None = None,
) -> str:
    """Upload a saved pipeline to the hub.

    It is loaded strictly first. A README.md of the folder's own is kept; else one is written from
    the recorded metrics. The new commit goes to the main branch; a revision becomes its tag.

    Args:
        folder: Written by :meth:`StylizePipeline.save_pretrained`.
        name: The repository, made if missing, and the tag.
        licence: Of the weights, in the hub's spelling, such as "apache-2.0".
        private: Of a new repository; None for the account's usual.
        metrics: A JSON file of figures, such as a row of scripts/evaluate.py, to go along.

    Returns:
        The address of the commit.

    Raises:
        InputError: The tag is there already; the metrics can't be read.
        WeightsError: The pipeline does not load or needs a CLIP folder of this machine; the hub is
            out of reach or refuses.
    """
    import huggingface_hub as hub

    folder = Path(folder)
    check_pipeline(folder)
    clip, _ = read_index(folder)
    if names_a_folder(clip):
        raise WeightsError(
            f"{folder} was trained with the CLIP folder {clip}, which no other machine has; "
            "upload that folder to the hub and name it in model_index.json: hf-hub:org/name"
        )
    problem = f"can't push {name}"
    if offline():
        raise WeightsError(f"{problem}: the network is forbidden; unset HF_HUB_OFFLINE")
    knock(problem, "try again with a network")
    api = hub.HfApi()
    with tempfile.TemporaryDirectory() as place:
        staged = _stage(folder, Path(place), name, licence, metrics)
        try:
            repo = api.create_repo(name.repo, private=private, exist_ok=True).repo_id
            tag = name.revision
            if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repo).tags}:
                raise InputError(f"{name} is there already, and a tag never moves; choose another")
            commit = api.upload_folder(
                repo_id=repo, folder_path=staged, commit_message=f"clipmamba models push {name}"
            )
            if tag is not None:
                api.create_tag(repo, tag=tag, revision=commit.oid)
        except InputError:
            raise
        except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
            raise WeightsError(f"{problem}: {one_line(error)}") from error
    return str(commit.commit_url)


def check_pipeline(model: str | Path) -> None:
    """Compare a pipeline with its hashes, if it records any, and load it strictly, on the CPU.

    Raises:
        WeightsError: It is damaged or does not fit.
    """
    if isinstance(model, Path):  # of the hub's models it is done whenever they load
        check_hashes(model)
    StylizePipeline.from_pretrained(model, "cpu")


def _stage(
    folder: Path, place: Path, name: HubName, licence: str, metrics: str | Path | None
) -> Path:
    """Copy what is uploaded to a folder of its own; hashes are taken of the copies."""
    for file in FILES:
        (place / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / file, place / file)
    for file in read_metrics(folder):
        (place / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / file, place / file)
    if metrics is not None:
        try:
            shutil.copyfile(metrics, place / METRICS)
        except OSError as error:
            raise InputError(f"can't read {metrics}: {error.strerror or error}") from error
    weights = []
    for file in FILES:
        if file.endswith(".safetensors"):
            part, base = file.split("/")
            size, digest = measure(place / file)
            weights.append(Weights(part, base, size, digest, licence, _ABOUT[part]))
    write_json(place / MANIFEST, [asdict(entry) for entry in weights])
    if (folder / CARD).is_file():
        shutil.copyfile(folder / CARD, place / CARD)
    else:
        text = write_card(place, name, licence, tuple(weights))
        (place / CARD).write_text(text, encoding="utf-8")
    return place
