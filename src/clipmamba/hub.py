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
from clipmamba.hub_access import knock, offline

__all__ = ["HubName", "cached_models", "check_blobs", "fetch", "find_cached"]

_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?", re.ASCII)
_SHA256, _GIT = 64, 40  # hexadecimal digits of a blob's name: its SHA-256, or git's hash of it


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

        >>> HubName.parse("ann/prints@v1")
        HubName(repo='ann/prints', revision='v1')
        >>> HubName.parse("./ann/prints") is None
        True
        """
        match = _NAME.fullmatch(text)
        return None if match is None or ".." in text else cls(*match.groups())

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def find_cached(
    name: HubName, files: Sequence[str], cache_dir: str | Path | None = None
) -> Path | None:
    """The folder in the local cache that has all of `files`; None if one is missing.

    Raises:
        WeightsError: The hub allows no such name.
    """
    import huggingface_hub as hub

    folder = None
    for file in files:
        try:
            path = hub.try_to_load_from_cache(
                name.repo, file, cache_dir=cache_dir, revision=name.revision
            )
        except hub.errors.HFValidationError as error:
            raise WeightsError(f"{name} is not a name of the hub's: {one_line(error)}") from error
        if not isinstance(path, str):
            return None
        folder = Path(path).parents[len(Path(file).parts) - 1]
    return folder


def cached_models(files: Sequence[str]) -> Iterator[tuple[HubName, str, Path]]:
    """Repositories in the local cache that have all of `files`: name, commit, folder.

    A commit that no branch or tag of the cache leads to is named by itself.
    """
    import huggingface_hub as hub

    try:
        repos = hub.scan_cache_dir().repos
    except hub.errors.CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for version in sorted(repo.revisions, key=lambda version: version.commit_hash):
            if repo.repo_type != "model" or "/" not in repo.repo_id:
                continue
            if all((version.snapshot_path / file).is_file() for file in files):
                for ref in sorted(version.refs) or [version.commit_hash]:
                    name = HubName(repo.repo_id, None if ref == "main" else ref)
                    yield name, version.commit_hash, version.snapshot_path


def fetch(
    name: HubName,
    files: Sequence[str],
    extra: Sequence[str] = (),
    *,
    cache_dir: str | Path | None = None,
    local_files_only: bool | None = None,
    renew: bool = False,
    again: bool = False,
) -> Path:
    """The folder of a repository, from the cache as it is, else from the hub.

    Args:
        name: The repository and its version.
        files: What must be in it.
        extra: Patterns of what comes along if it is there.
        cache_dir: Where hub files are kept; the hub's own default if None.
        local_files_only: Never use the network; None asks `HF_HUB_OFFLINE`.
        renew: Ask the hub for the version of today, whatever the cache has.
        again: Download every file again.

    Raises:
        WeightsError: It is not in the cache and the network is forbidden or the hub out of reach;
            there is no such repository or version; a file is missing.
    """
    import huggingface_hub as hub

    cached = find_cached(name, files, cache_dir)
    if cached is not None and not (renew or again):
        return cached
    problem = f"{name} is not in the local cache" if cached is None else f"can't renew {name}"
    remedy = f"with a network, run: clipmamba models pull {name}"
    if offline(local_files_only):
        raise WeightsError(f"{problem}, and the network is forbidden; {remedy}")
    knock(problem, remedy)
    try:
        # Asked first: for want of an answer the download would quietly take what the cache has.
        newest = hub.HfApi().model_info(name.repo, revision=name.revision).sha
        path = hub.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[*files, *extra],
            cache_dir=cache_dir,
            force_download=again,
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise WeightsError(f"can't download {name}: {one_line(error).split('. ')[0]}") from error
    folder = Path(path)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise WeightsError(f"the hub repository {name} has no {missing[0]}")
    if folder.name != newest:
        raise WeightsError(f"the download of {name} was cut short; {remedy}")
    return folder


def check_blobs(folder: Path) -> int:
    """Compare the files of a folder in the cache with the hashes that their blobs are named by.

    Returns:
        How many files have such a name; none where the cache holds no links.

    Raises:
        WeightsError: A file is damaged.
    """
    count = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            continue
        recorded = path.resolve().name
        if re.fullmatch(r"[0-9a-f]+", recorded) is None or len(recorded) not in (_SHA256, _GIT):
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"can't read {path}: {one_line(error)}") from error
        if len(recorded) == _SHA256:
            found = hashlib.sha256(data).hexdigest()
        else:
            found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if found != recorded:
            raise WeightsError(f"{path} is damaged (another hash)")
        count += 1
    return count
