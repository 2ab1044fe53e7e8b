"""Models of the Hugging Face Hub: names such as "user/name@v1", downloads, the local cache.

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
    """A repository on the Hub and a revision of it.

    Attributes:
        repo: "user/name".
        revision: A branch, a tag or a commit hash; None for the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Read "user/name" or "user/name@revision"; None for any other text.

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
    """Find the folder of a repository in the local cache, or download it.

    Args:
        name: The repository and its revision.
        files: The required files; the first must be at the top level.
        extra: Patterns of optional files.
        cache_dir: Cache folder; None for the default of huggingface_hub.
        local_files_only: Never use the network; None looks at `HF_HUB_OFFLINE`.

    Raises:
        WeightsError: It is not in the cache, and the network is forbidden or the Hub can't be
            reached; the repository or the revision does not exist; a file is missing.
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
    """Download the current files of a repository, except those in the cache, and find its folder.

    Args:
        name: The repository and its revision.
        files: The required files.
        extra: Patterns of optional files.
        cache_dir: Cache folder; None for the default of huggingface_hub.
        again: Whether to download the files in the cache too.

    Raises:
        WeightsError: As for `fetch`.
    """
    import huggingface_hub as hub

    problem = f"can't download {name}"
    if offline():
        raise WeightsError(f"{problem}: the network is forbidden; unset HF_HUB_OFFLINE")
    knock(problem, "try again with a network")
    with hub_errors(problem):
        # Asked first: without a response, snapshot_download silently returns the cached files.
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
        raise WeightsError(f"{problem}: the repository has no {missing[0]}")
    return folder


def _missing(folder: Path, files: Sequence[str]) -> list[str]:
    return [file for file in files if not (folder / file).is_file()]


def cached_models(files: Sequence[str]) -> Iterator[tuple[HubName, str, Path]]:
    """List the repositories in the local cache that have all `files`: name, commit, folder.

    A commit without a branch or tag in the cache is named by its hash.
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
    """Verify the files of a cache folder against the hashes that name their blobs.

    Returns:
        The number of verified files; 0 if the cache has no symbolic links.

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
