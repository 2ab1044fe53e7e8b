"""Webdataset shards to train on: tar files whose members are read by their place.

A member's path is `SHARD.tar@OFFSET+SIZE/NAME`. It says all that it takes to read the member, so
shards are drawn from at random, like files, without an index in memory: the batch of a step
stays a function of seed, step and process, and a resumed run goes on with it.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clipmamba.errors import InputError
from clipmamba.files import one_line

KINDS = {"style": "style", "content": "photo"}  # first word of a shard's name: kind of picture
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_PLACE = re.compile(r"(?P<shard>.+\.tar)@(?P<offset>\d+)\+(?P<size>\d+)")


def has_shards(data: Path) -> bool:
    """Whether a data folder holds shards rather than lists and files."""
    return any(data.glob("*.tar"))


def read_member(path: Path) -> bytes | None:
    """Bytes of a shard's member; None if the path is a plain file's.

    Raises:
        InputError: The shard is missing, or shorter than when it was listed.
    """
    found = _PLACE.fullmatch(str(path.parent))
    if found is None:
        return None
    offset, size = int(found["offset"]), int(found["size"])
    try:
        with open(found["shard"], "rb", buffering=0) as shard:
            shard.seek(offset)
            data = shard.read(size)
    except OSError as error:
        raise InputError(f"can't read {found['shard']}: {one_line(error)}") from error
    if len(data) != size:
        raise InputError(f"{found['shard']} is not what was prepared; prepare again")
    return data


def missing_pictures(data: Path, names: Iterable[str]) -> list[str]:
    """Names of files that are not below `data`, and of members whose shard is not, or is shorter.

    One look at each file, or at each shard.
    """
    sizes: dict[str, int] = {}
    missing = []
    for name in names:
        found = _PLACE.fullmatch(name.rpartition("/")[0])
        if found is None:
            if not (data / name).is_file():
                missing.append(name)
            continue
        shard = found["shard"]
        if shard not in sizes:
            file = data / shard
            sizes[shard] = file.stat().st_size if file.is_file() else -1
        if int(found["offset"]) + int(found["size"]) > sizes[shard]:
            missing.append(name)
    return missing


def list_members(data: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Pictures of one kind in the shards of a folder, with the words of each.

    Args:
        data: Folder with `style-*.tar` and `content-*.tar`.
        kind: "style" or "photo".

    Yields:
        The path below `data`, and a style's words: `style_words` of the sample's `.json`, else its
        `.txt`, else "".

    Raises:
        InputError: A shard can't be read.
    """
    for shard in sorted(data.glob("*.tar")):
        if KINDS.get(shard.name.partition("-")[0]) == kind:
            try:
                with tarfile.open(shard, "r:") as archive:
                    yield from _samples(shard.name, archive)
            except (OSError, tarfile.TarError, ValueError) as error:
                raise InputError(f"can't read {shard}: {one_line(error)}") from error


def _samples(shard: str, archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """Members of one key follow each other, as webdataset demands."""
    key, place, words = "", "", ""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # else it keeps every header
        if not member.isfile():
            continue
        stem, _, extension = Path(member.name).name.partition(".")
        mine = str(Path(member.name).with_name(stem))
        if mine != key:
            if place:
                yield place, words
            key, place, words = mine, "", ""
        if f".{extension.lower()}" in PICTURES:
            place = f"{shard}@{member.offset_data}+{member.size}/{Path(member.name).name}"
        elif extension in ("json", "txt"):
            words = _words(extension, archive.extractfile(member).read()) or words  # type: ignore[union-attr]
    if place:
        yield place, words


def _words(extension: str, data: bytes) -> str:
    text = data.decode()
    if extension == "txt":
        return text.strip()
    value: Any = json.loads(text)
    return str(value.get("style_words", "")) if isinstance(value, dict) else ""
