"""``clipmamba models``: the shipped weights, and models of the Hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from clipmamba.cli.exits import PoliteGroup
from clipmamba.cli.options import PATH
from clipmamba.cli.terminal import plain_warnings, status
from clipmamba.errors import InputError, WeightsError
from clipmamba.hub import HubName, cached_models, check_blobs, download
from clipmamba.pipelines.saved import FILES, RECORDS, check_hashes, read_index, refuse_folder
from clipmamba.weights import ROOT, released, verify

_CHECK = click.option("--check", is_flag=True, help="Verify every file against its SHA-256.")


@click.group(cls=PoliteGroup, invoke_without_command=True)
@_CHECK
@click.pass_context
def models(context: click.Context, check: bool) -> None:
    """List, download, upload and verify weights.

    Without a command: list them. NAME is user/name on the Hugging Face Hub, or user/name@revision
    with a branch, a tag or a commit hash. The usual variables apply: HF_HOME for the cache,
    HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE=1.

    \b
    clipmamba models
    clipmamba models pull ann/prints@v1
    clipmamba stylize photo.jpg -p "woodcut" --model ann/prints@v1
    clipmamba models push runs/model ann/prints@v2 --license apache-2.0
    clipmamba models verify ann/prints@v1
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if context.invoked_subcommand is None:
        context.invoke(list_models, check=check)
    elif check:
        raise click.UsageError("give --check to 'clipmamba models list'", context)


@models.command("list")
@_CHECK
def list_models(check: bool) -> None:
    """List the weights that ship with the package, and the models in the local cache."""
    verified = " (verified)" if check else ""
    for weights in released():
        if check:
            verify(weights)
        click.echo(f"{weights.name}: {weights.about}{verified}")
        click.echo(f"  {weights.path()}")
        click.echo(f"  {weights.bytes / 1e6:.1f} MB, sha256 {weights.sha256}")
        click.echo(f"  {weights.licence}")
    for name, commit, folder in cached_models(FILES):
        if check:
            _compare(folder)
        click.echo(f"{name}: from the Hub, commit {commit[:12]}{verified}")
        click.echo(os.fsencode(f"  {folder}"))


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Download or update NAME, and print its folder.

    Files in the cache are downloaded again only if they are damaged. No other command updates a
    model in the cache.
    """
    model = _parse(name)
    _no_bars_in_files()
    with plain_warnings(), status(f"downloading {model}"):
        folder = download(model, FILES, RECORDS)
        try:
            _compare(folder)
        except WeightsError:
            click.echo(f"{model} is damaged in the cache: downloading it again", err=True)
            folder = download(model, FILES, RECORDS, again=True)
            _compare(folder)
        clip = read_index(folder).clip
        refuse_folder(model, clip)
        if clip != "mini":
            from clipmamba.clip import Clip

            Clip.from_pretrained(clip, device="cpu")  # downloads it too
    click.echo(os.fsencode(folder))


@models.command()
@click.argument("folder", type=PATH)
@click.argument("name")
@click.option(
    "--license",
    "license_id",
    required=True,
    metavar="ID",
    help="License of the weights, by the Hub's identifier: apache-2.0, cc-by-nc-4.0, other.",
)
@click.option("--metrics", type=PATH, metavar="JSON", help="Metrics for the model card.")
@click.option("--private", is_flag=True, default=None, help="Make the new repository private.")
def push(
    folder: Path, name: str, license_id: str, metrics: Path | None, private: bool | None
) -> None:
    """Upload FOLDER, saved by StylizePipeline.save_pretrained, to NAME, and print the commit's URL.

    The folder is loaded strictly first. The upload includes the SHA-256 hashes of the weights and
    the folder's README.md, or else a model card generated from its metrics.json. With
    user/name@TAG the commit gets that tag, which must be new. Log in with HF_TOKEN or
    'hf auth login'.
    """
    model = _parse(name)
    read_index(folder)
    from clipmamba.pipelines.publish import publish

    _no_bars_in_files()
    with plain_warnings(), status(f"uploading to {model}"):
        address = publish(folder, model, license_id, private=private, metrics=metrics)
    click.echo(address)


@models.command("verify")
@click.argument("model", required=False)
def verify_model(model: str | None) -> None:
    """Load MODEL, a folder or a NAME, strictly, and verify its recorded hashes.

    Strictly means: every tensor is present, has the right shape and is finite, and none is left
    over. Hashes are recorded in manifest.json, which a push writes, and in the Hub's cache.
    Without MODEL: the shipped weights.
    """
    folder = ROOT if model is None else read_index(model).folder
    count = _compare(folder)
    from clipmamba.pipelines import StylizePipeline

    with plain_warnings(), status("loading the model"):
        StylizePipeline.from_pretrained(model, "cpu")
    hashes = f"{count} hashes match" if count else "no recorded hashes"
    label = "default" if model is None else model
    click.echo(os.fsencode(f"{label}: loads strictly, all weights finite; {hashes}"))


def _parse(name: str) -> HubName:
    parsed = HubName.parse(name)
    if parsed is None:
        raise InputError(f"{name!r} is not a name on the Hub; use user/name or user/name@revision")
    return parsed


def _no_bars_in_files() -> None:
    """Show no progress bars of huggingface_hub unless stderr is a terminal."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        disable_progress_bars()


def _compare(folder: Path) -> int:
    """Verify the recorded hashes of a folder and count them."""
    return check_hashes(folder) + check_blobs(folder)
