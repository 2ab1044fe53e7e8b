"""Large sets of pictures in parts: folders, parquet or webdataset shards in, shards out.

A *part* is what one worker does in one go: one shard, one row group, or some files of a folder. Its
result is one tar file that appears whole or not at all, so a run that is killed, or a worker that
is, loses and doubles nothing: parts whose file is there are done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipmamba.errors import ClipmambaError, InputError
from clipmamba.files import one_line, write_json, write_whole

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic", ".bmp", ".gif")
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp"}  # of the results


@dataclasses.dataclass(frozen=True)
class Part:
    """Some pictures of a data set.

    Attributes:
        number: Its place in the data set; the name of its result.
        files: One shard, one parquet file, or the pictures themselves.
        base: Folder that names of pictures are relative to.
        group: Row group of a parquet file.
        column: Column of it that holds the bytes of picture files.
    """

    number: int
    files: tuple[str, ...]
    base: str
    group: int = 0
    column: str = ""

    @property
    def name(self) -> str:
        """Of the result, without an extension."""
        return f"part-{self.number:07d}"


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture file.

    Attributes:
        key: Its name in a shard.
        source: Where it came from, for people.
        data: The bytes, or the path of the file.
    """

    key: str
    source: str
    data: bytes | Path


def list_parts(source: Path, files_per_part: int = 256, column: str = "image") -> list[Part]:
    """Divide a data set; the same files give the same parts.

    Args:
        source: A folder of webdataset shards (`*.tar`), of parquet files, or of pictures, with the
            folders in it; or one such file.
        files_per_part: Pictures of a folder that make a part.
        column: Column of parquet files with the bytes of a picture file, or a struct with `bytes`.

    Raises:
        InputError: There is nothing to restyle, or there are several kinds.
    """
    base = source if source.is_dir() else source.parent
    found = sorted(p for p in (source.rglob("*") if source.is_dir() else [source]) if p.is_file())
    shards = [file for file in found if file.suffix == ".tar"]
    tables = [file for file in found if file.suffix == ".parquet"]
    pictures = [file for file in found if file.suffix.lower() in PICTURES]
    kinds = [kind for kind in (shards, tables, pictures) if kind]
    if len(kinds) != 1:
        what = "no pictures, tar or parquet files" if not kinds else "files of several kinds"
        raise InputError(f"{source} has {what}; give pictures, tar files or parquet files")
    if shards:
        return [Part(n, (str(file),), str(base)) for n, file in enumerate(shards)]
    if pictures:
        starts = range(0, len(pictures), files_per_part)
        runs = [tuple(map(str, pictures[s : s + files_per_part])) for s in starts]
        return [Part(n, files, str(base)) for n, files in enumerate(runs)]
    groups = [(file, group) for file in tables for group in range(_row_groups(file, column))]
    return [Part(n, (str(f),), str(base), group, column) for n, (f, group) in enumerate(groups)]


def _row_groups(file: Path, column: str) -> int:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    if column not in table.schema_arrow.names:
        names = ", ".join(table.schema_arrow.names)
        raise InputError(f"{file} has no column {column!r}; --column names one of: {names}")
    return int(table.num_row_groups)


def read_part(part: Part) -> Iterator[Sample]:
    """The pictures of a part, one at a time.

    Raises:
        InputError: The file of the part can't be read.
    """
    first = Path(part.files[0])
    try:
        if part.column:
            yield from _rows(part, first)
        elif first.suffix == ".tar":
            yield from _members(part, first)
        else:
            for number, name in enumerate(part.files):
                file = Path(name)
                key = f"{part.number:07d}-{number:05d}"
                yield Sample(key, str(file.relative_to(part.base)), file)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"can't read {first}: {one_line(error)}") from error


def _rows(part: Part, file: Path) -> Iterator[Sample]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file).read_row_group(part.group, columns=[part.column])
    for number, value in enumerate(table.column(part.column)):
        cell = value.as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        source = f"{file.relative_to(part.base)}, group {part.group}, row {number}"
        yield Sample(f"{part.number:07d}-{number:05d}", source, data or b"")


def _members(part: Part, shard: Path) -> Iterator[Sample]:
    """Pictures of a shard; what belongs to none, such as captions, is passed over."""
    with tarfile.open(shard, "r|") as archive:
        for member in archive:
            stem, dot, extension = Path(member.name).name.partition(".")
            if member.isfile() and dot and f".{extension.lower()}" in PICTURES:
                content = archive.extractfile(member)
                assert content is not None
                key = str(Path(member.name).with_name(stem))
                yield Sample(key, f"{shard.relative_to(part.base)}/{member.name}", content.read())


def restyle_part(
    part: Part, output: Path, restyle: Callable[[bytes | Path], bytes], extension: str
) -> tuple[int, int]:
    """Restyle the pictures of a part into one shard, unless that is there.

    Failures go into a list beside it, one JSON object per picture, before the shard appears. So
    does a shard that ends early: what was read of it is kept.

    Args:
        part: The part.
        output: Folder; gets `part-0000000.tar` and, where any failed, a `.failures.jsonl`.
        restyle: Gives the result's bytes; a `ClipmambaError` is a failure of that picture alone.
        extension: Of the results, without a dot.

    Returns:
        Pictures restyled and failed now; zeros where the shard was there.
    """
    target = output / f"{part.name}.tar"
    if target.exists():
        return 0, 0
    done, failures = 0, []
    with write_whole(target) as hidden, tarfile.open(hidden, "w") as archive:
        try:
            for sample in read_part(part):
                try:
                    result = restyle(sample.data)
                except ClipmambaError as error:
                    failures.append({"source": sample.source, "error": one_line(error)})
                    continue
                note = json.dumps({"source": sample.source}).encode()
                for end, data in ((extension, result), ("json", note)):
                    member = tarfile.TarInfo(f"{sample.key}.{end}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                done += 1
        except InputError as error:
            failures.append({"source": part.files[0], "error": one_line(error)})
        if failures:
            with write_whole(output / f"{part.name}.failures.jsonl") as listed:
                listed.write_text("".join(json.dumps(f) + "\n" for f in failures))
    return done, len(failures)


def begin_run(output: Path, parts: Sequence[Part], settings: dict[str, Any]) -> list[Part]:
    """Note what a run does, and give the parts that are left.

    Raises:
        InputError: The folder holds results of other pictures, or of other settings.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(repr((part.files, part.group, part.column)).encode())
    told = {"parts": len(parts), "files": digest.hexdigest(), **settings}
    record = output / "run.json"
    if record.is_file():
        before = json.loads(record.read_text(encoding="utf-8"))
        changed = sorted(k for k in {*told, *before} if told.get(k) != before.get(k))
        if changed:
            raise InputError(
                f"{output} was begun with other {', '.join(changed)}; give what {record} says, "
                "or another folder"
            )
    else:
        write_json(record, told)
    done = {file.name for file in output.glob("part-*.tar")}
    return [part for part in parts if f"{part.name}.tar" not in done]
