"""Webdataset shards to train on: tar files whose members are read by their place.

A member's path is `SHARD.tar@OFFSET+SIZE/NAME`, which is all it takes to read it. So pictures are
drawn from all shards at random, like files: with no shuffle buffer and no index in memory, and the
batch of a step stays a function of seed, step and process.
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
from clipmamba.io.folders import PICTURES

KINDS = {"style": "style", "content": "photo"}  # kind of the pictures by the shard's first word
_PLACE = re.compile(r"(?P<shard>.+\.tar)@(?P<offset>\d+)\+(?P<size>\d+)")


def has_shards(data: Path) -> bool:
    """Return whether a data folder holds shards rather than lists and files."""
    return any(data.glob("*.tar"))


def read_member(path: Path) -> bytes | None:
    """Read the bytes of a shard's member; return None if the path is that of a plain file.

    Raises:
        InputError: The shard is missing, or shorter than when it was listed.
    """
    match = _PLACE.fullmatch(str(path.parent))
    if match is None:
        return None
    offset, size = int(match["offset"]), int(match["size"])
    try:
        with open(match["shard"], "rb") as shard:
            shard.seek(offset)
            data = shard.read(size)
    except OSError as error:
        raise InputError(f"can't read {match['shard']}: {one_line(error)}") from error
    if len(data) != size:
        raise InputError(f"{match['shard']} is shorter than when it was prepared; prepare again")
    return data


def missing_pictures(data: Path, names: Iterable[str]) -> list[str]:
    """Return the names below `data` that can't be read: files, and members beyond a shard's end.

    Each file, and each shard, is looked at once.
    """
    sizes: dict[str, int] = {}
    missing = []
    for name in names:
        match = _PLACE.fullmatch(name.rpartition("/")[0])
        if match is None:
            if not (data / name).is_file():
                missing.append(name)
            continue
        shard = match["shard"]
        if shard not in sizes:
            file = data / shard
            sizes[shard] = file.stat().st_size if file.is_file() else -1
        if int(match["offset"]) + int(match["size"]) > sizes[shard]:
            missing.append(name)
    return missing


def list_members(data: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the pictures of one kind in the shards of a folder, with the words of each.

    Args:
        data: Folder with `style-*.tar` and `content-*.tar`.
        kind: "style" or "photo".

    Yields:
        The path below `data`, and the words on one line: `style_words` of the sample's `.json`,
        otherwise its `.txt`, otherwise "".

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
    """Yield the samples of a shard, whose members follow each other, as webdataset requires."""
    key, place, words = "", "", ""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would keep every header
        if not member.isfile():
            continue
        name = Path(member.name).name
        stem, _, extension = name.partition(".")
        own_key = str(Path(member.name).with_name(stem or name))
        if own_key != key:
            if place:
                yield place, words
            key, place, words = own_key, "", ""
        if f".{extension.lower()}" in PICTURES:
            place = f"{shard}@{member.offset_data}+{member.size}/{name}"
        elif extension in ("json", "txt"):
            content = archive.extractfile(member)
            assert content is not None
            words = _words(extension, content.read()) or words
    if place:
        yield place, words


def _words(extension: str, data: bytes) -> str:
    text = data.decode()
    if extension == "json":
        value: Any = json.loads(text)
        text = str(value.get("style_words", "")) if isinstance(value, dict) else ""
    return " ".join(text.split())
