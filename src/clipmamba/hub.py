"""The model hub: names such as "user/name@v1", and its local cache.

huggingface_hub is imported inside the functions: the default weights need none of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmamba.errors import WeightsError
from clipmamba.files import one_line
from clipmamba.hub_access import hub_errors, knock, offline

__all__ = ["HubName", "cached_models", "check_blobs", "download", "fetch"]

_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a blob's name: git's hash, or its SHA-256


@dataclass(frozen=True)
class HubName:
    """A repository of models and a version of it.

    Attributes:
        repo: "user/name".
        revision: A branch, a tag or a commit; None for the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Read "user/name" or "user/name@revision"; None if the text is no such name.

        Examples:
            >>> HubName.parse("ann/prints@v1")
            HubName(repo='ann/prints', revision='v1')
            >>> HubName.parse("./ann/prints") is None
            True
        """
        match = _NAME.fullmatch(text)
        return None if match is None or ".." in text else cls(*match.groups())

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def fetch(
    name: HubName,
    files: Sequence[str],
    extra: Sequence[str] = (),
    *,
    cache_dir: str | Path | None = None,
    local_files_only: bool | None = None,
) -> Path:
    """The folder of a repository, from the cache as it is, else from the hub.

    Args:
        name: The repository and its version.
        files: What must be in it; the first of them lies at its top.
        extra: Patterns of what comes along if it is there.
        cache_dir: Where hub files are kept; the hub's own default if None.
        local_files_only: Never use the network; None asks `HF_HUB_OFFLINE`.

    Raises:
        WeightsError: It is not in the cache and the network is forbidden or the hub out of reach;
            there is no such repository or version; a file is missing.
    """
    import huggingface_hub as hub

    problem = f"{name} is not in the local cache"
    with hub_errors(problem):
        top = hub.try_to_load_from_cache(name.repo, files[0], cache_dir, name.revision)
    if isinstance(top, str) and not _missing(Path(top).parent, files):
        return Path(top).parent
    if offline(local_files_only):
        raise WeightsError(
            f"{problem}, and the network is forbidden; with a network, "
            f"run: clipmamba models pull {name}"
        )
    return download(name, files, extra, cache_dir=cache_dir)


def download(
    name: HubName,
    files: Sequence[str],
    extra: Sequence[str] = (),
    *,
    cache_dir: str | Path | None = None,
    again: bool = False,
) -> Path:
    """The folder of a repository as the hub has it today; what the cache has of it is not loaded.

    Args:
        name: As for `fetch`, like the others.
        files: What must be in it.
        extra: Patterns of what comes along if it is there.
        cache_dir: Where hub files are kept.
        again: Load every file, whatever the cache has.

    Raises:
        WeightsError: As for `fetch`.
    """
    import huggingface_hub as hub

    problem = f"can't download {name}"
    if offline():
        raise WeightsError(f"{problem}: the network is forbidden; unset HF_HUB_OFFLINE")
    knock(problem, "try again with a network")
    with hub_errors(problem):
        # Asked first: for want of an answer the download would quietly take what the cache has.
        newest = hub.HfApi().model_info(name.repo, revision=name.revision).sha
        path = hub.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[*files, *extra],
            cache_dir=cache_dir,
            force_download=again,
        )
    folder = Path(path)
    if folder.name != newest:
        raise WeightsError(f"{problem}: the connection broke; try again")
    missing = _missing(folder, files)
    if missing:
        raise WeightsError(f"{problem}: the hub's repository has no {missing[0]}")
    return folder


def _missing(folder: Path, files: Sequence[str]) -> list[str]:
    return [file for file in files if not (folder / file).is_file()]


def cached_models(files: Sequence[str]) -> Iterator[tuple[HubName, str, Path]]:
    """Repositories in the local cache that have all of `files`: name, commit, folder.

    A commit that no branch or tag of the cache leads to is named by itself.
    """
    import huggingface_hub as hub

    try:
        repos = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos
    except hub.errors.CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model" or "/" not in repo.repo_id:
            continue
        for version in sorted(repo.revisions, key=lambda version: version.commit_hash):
            if not _missing(version.snapshot_path, files):
                for ref in sorted(version.refs) or [version.commit_hash]:
                    name = HubName(repo.repo_id, None if ref == "main" else ref)
                    yield name, version.commit_hash, version.snapshot_path


def check_blobs(folder: Path) -> int:
    """Compare the files of a folder in the cache with the hashes that their blobs are named by.

    Returns:
        How many files have such a name; none where the cache holds no links.

    Raises:
        WeightsError: A file is damaged.
    """
    count = 0
    for path in sorted(folder.rglob("*")):
        recorded = path.resolve().name
        if not path.is_symlink() or _HASH.fullmatch(recorded) is None:
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"can't read {path}: {one_line(error)}") from error
        if len(recorded) == 64:
            found = hashlib.sha256(data).hexdigest()
        else:
            found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if found != recorded:
            raise WeightsError(f"{path} is damaged (another hash)")
        count += 1
    return count
