"""Data sets of pictures in parts: folders, parquet files or webdataset shards in, shards out.

A *part* is what a worker restyles in one go: one shard, one row group, or some files of a folder.
Its result is one tar file that appears whole or not at all. So a killed run or worker loses and
doubles nothing: the parts whose tar file exists are done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipmamba.errors import ClipmambaError, InputError
from clipmamba.files import one_line, reason, write_json, write_whole
from clipmamba.io.folders import PICTURES, raw_skipped, walk
from clipmamba.io.formats import RAW
from clipmamba.io.memory import memory_errors

logger = logging.getLogger("clipmamba")

SHARD, TABLE = ".tar", ".parquet"
RECORD = "run.json"  # of a folder with results
Restyle = Callable[[bytes | Path], bytes]
TRIES = 4  # of a part, per run; it may hold a picture that kills its worker
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp"}  # of the results, by format


@dataclasses.dataclass(frozen=True)
class Part:
    """Some pictures of a data set.

    Attributes:
        number: Its place in the data set.
        files: One shard, one parquet file, or the pictures themselves.
        base: Folder that names of pictures are relative to.
        group: Row group of a parquet file.
        column: Its column with the bytes of picture files; "" for other files.
    """

    number: int
    files: tuple[str, ...]
    base: str
    group: int = 0
    column: str = ""

    @property
    def name(self) -> str:
        """Name of the result, without an extension."""
        return f"part-{self.number:07d}"

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Read what `to_json` returned."""
        values = json.loads(text)
        return cls(**{**values, "files": tuple(values["files"])})


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture file.

    Attributes:
        key: Its name in the output shard, without an extension.
        source: Where it came from, for people.
        data: Its bytes or its path.
    """

    key: str
    source: str
    data: bytes | Path


def list_parts(
    source: Path, files_per_part: int = 256, column: str = "image", output: Path | None = None
) -> list[Part]:
    """Divide a data set into parts; the same files give the same parts.

    Hidden files and files of other kinds are skipped; a warning counts the RAW files among them.
    So are shards of earlier runs in subfolders, unless there is nothing else.

    Args:
        source: A folder of webdataset shards (`*.tar`), of parquet files, or of pictures,
            subfolders included; or one such file.
        files_per_part: Pictures of a folder that make a part.
        column: Column of parquet files with the bytes of a picture file, or a struct with `bytes`.
        output: Folder for the results, which is not searched.

    Raises:
        InputError: There is nothing to restyle, there are files of several kinds, a parquet file
            can't be read or lacks the column, or `output` is the folder of the data set itself.
    """
    if files_per_part < 1:
        raise InputError(f"files_per_part must be at least 1, not {files_per_part}")
    base = source if source.is_dir() else source.parent
    if output is not None and os.path.realpath(output) == os.path.realpath(base):
        raise InputError(f"{output} holds the data set; give the results a folder of their own")
    kinds_of_files = PICTURES | RAW | {SHARD, TABLE}
    files = sorted(walk(source, kinds_of_files, output)) if source.is_dir() else [source]
    shards = [file for file in files if file.suffix.lower() == SHARD]
    tables = [file for file in files if file.suffix.lower() == TABLE]
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    _report_raw(str(file) for file in files)
    earlier = [file for file in shards if file.parent != base and (file.parent / RECORD).is_file()]
    if earlier and (len(earlier) < len(shards) or tables or pictures):
        shards = sorted({*shards} - {*earlier})
        logger.warning("%d shards of earlier runs skipped, as %s", len(earlier), earlier[0])
    kinds = [kind for kind in (shards, tables, pictures) if kind]
    if len(kinds) != 1:
        what = "files of several kinds" if kinds else "no pictures, tar or parquet files"
        raise InputError(f"{source} has {what}; give pictures, tar files or parquet files")
    if shards:
        return [Part(n, (str(file),), str(base)) for n, file in enumerate(shards)]
    if pictures:
        starts = range(0, len(pictures), files_per_part)
        runs = [tuple(map(str, pictures[s : s + files_per_part])) for s in starts]
        return [Part(n, names, str(base)) for n, names in enumerate(runs)]
    groups = [(file, group) for file in tables for group in range(_row_groups(file, column))]
    return [Part(n, (str(f),), str(base), group, column) for n, (f, group) in enumerate(groups)]


def _report_raw(names: Iterable[str]) -> None:
    raw = [name for name in names if Path(name).suffix.lower() in RAW]
    if raw:
        logger.warning("%s", raw_skipped(raw))


def _row_groups(file: Path, column: str) -> int:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names, count = table.schema_arrow.names, int(table.num_row_groups)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"can't read {file}: {one_line(error)}") from error
    if column not in names:
        listed = ", ".join(names)
        raise InputError(f"{file} has no column {column!r}; --column names one of: {listed}")
    return count


def read_part(part: Part) -> Iterator[Sample]:
    """Yield the pictures of a part.

    Raises:
        InputError: A shard or parquet file can't be read.
    """
    first = Path(part.files[0])
    try:
        if part.column:
            yield from _rows(part, first)
        elif first.suffix.lower() == SHARD:
            yield from _members(part, first)
        else:
            for number, name in enumerate(part.files):
                file = Path(name)
                key = f"{part.number:07d}-{number:05d}"
                yield Sample(key, str(file.relative_to(part.base)), file)
    except (OSError, tarfile.TarError, ValueError, MemoryError) as error:
        raise InputError(f"can't read {first}: {one_line(error)}") from error


def _rows(part: Part, file: Path) -> Iterator[Sample]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as table:
        cells = table.read_row_group(part.group, columns=[part.column]).column(part.column)
    for number, value in enumerate(cells):
        cell = value.as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        source = f"{file.relative_to(part.base)}, group {part.group}, row {number}"
        yield Sample(f"{part.number:07d}-{number:05d}", source, data or b"")


def _members(part: Part, shard: Path) -> Iterator[Sample]:
    """Yield the first picture of each sample of a shard; captions and the like are skipped."""
    last = ""
    raw = []
    with tarfile.open(shard, "r|") as archive:
        for member in archive:
            stem, _, extension = Path(member.name).name.partition(".")
            key = str(Path(member.name).with_name(stem)) if stem else ""
            if not (member.isfile() and key):
                continue
            source = f"{shard.relative_to(part.base)}/{member.name}"
            if f".{extension.lower()}" in RAW:
                raw.append(source)
            elif key != last and f".{extension.lower()}" in PICTURES:
                last = key
                content = archive.extractfile(member)
                assert content is not None
                yield Sample(key, source, content.read())
    _report_raw(raw)


def try_restyle(restyle: Restyle, data: bytes | Path) -> tuple[bytes, str]:
    """Restyle one picture.

    Returns:
        The result and ""; or, if it fails or does not fit in memory, nothing and the reason.
    """
    try:
        with memory_errors("the picture", "give a smaller max_size"):
            return restyle(data), ""
    except ClipmambaError as error:
        return b"", one_line(error)


def restyle_part(part: Part, output: Path, restyle: Restyle, extension: str) -> tuple[int, int]:
    """Restyle the pictures of a part into one shard, unless the shard exists.

    Pictures that fail are listed in a file beside the shard, one JSON object per picture. Of a
    shard that ends early, the pictures before its end are restyled and the rest is one failure.

    Args:
        part: The part.
        output: Folder for `part-0000000.tar` and, with failures, `part-0000000.failures.jsonl`.
        restyle: Returns the bytes of the result; a `ClipmambaError` or a lack of memory is a
            failure of that picture.
        extension: Extension of the results, without a dot.

    Returns:
        The numbers of pictures restyled and failed; zeros if the shard exists, or if the worker
        was killed in each of `TRIES` tries.
    """
    target = output / f"{part.name}.tar"
    tries = output / f".{part.name}.tries"
    if target.exists() or not _count_try(tries):
        return 0, 0
    done, failures = 0, []
    with write_whole(target) as hidden, tarfile.open(hidden, "w") as archive:
        try:
            for sample in read_part(part):
                result, problem = try_restyle(restyle, sample.data)
                if problem:
                    failures.append({"source": sample.source, "error": problem})
                    continue
                note = json.dumps({"source": sample.source}).encode()
                _add(archive, f"{sample.key}.{extension}", result)
                _add(archive, f"{sample.key}.json", note)
                done += 1
        except InputError as error:
            failures.append({"source": part.files[0], "error": one_line(error)})
        if not (done or failures):
            failures.append({"source": part.files[0], "error": "there are no pictures in it"})
        _write_failures(output / f"{part.name}.failures.jsonl", failures)
    tries.unlink(missing_ok=True)
    return done, len(failures)


def _count_try(tries: Path) -> bool:
    """Count a try in a file, one byte each; return whether it may be made."""
    with tries.open("ab") as file:
        if file.tell() >= TRIES:
            return False
        file.write(b".")
    return True


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of time 0, so that equal results make equal shards
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _write_failures(file: Path, failures: Sequence[dict[str, str]]) -> None:
    if failures:
        with write_whole(file) as hidden:
            hidden.write_text("".join(json.dumps(row) + "\n" for row in failures), "utf-8")
    else:
        file.unlink(missing_ok=True)  # of a try that was killed


def begin_run(output: Path, parts: Sequence[Part], settings: dict[str, Any]) -> list[Part]:
    """Record a run's settings in its folder, and return the parts that remain to do.

    Args:
        output: Folder for the results.
        parts: All parts of the data set.
        settings: Everything that the results depend on, as JSON holds it.

    Raises:
        InputError: The folder holds results of other files or with other settings, or can't be
            created or written.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(repr((part.files, part.group, part.column)).encode())
    listed = {"parts": len(parts), "files": digest.hexdigest(), **settings}
    wanted = json.loads(json.dumps(listed))  # as it will be read again
    record = output / RECORD
    before = wanted
    try:
        if record.is_file():
            before = json.loads(record.read_text(encoding="utf-8"))
        else:
            write_json(record, wanted)
    except OSError as error:
        raise InputError(f"can't use the folder {output}: {reason(error)}; give another") from error
    except ValueError as error:
        raise InputError(f"can't read {record}: {one_line(error)}; give another folder") from error
    changed = sorted(k for k in {*wanted, *before} if wanted.get(k) != before.get(k))
    if changed:
        raise InputError(
            f"{output} was begun with other {', '.join(changed)}; give what {record} says, "
            "or another folder"
        )
    _remove(output, ".part-*.tries")
    return missing_parts(output, parts)


def missing_parts(output: Path, parts: Sequence[Part]) -> list[Part]:
    """Return the parts whose shard does not exist."""
    done = {file.name for file in output.glob("part-*.tar")}
    return [part for part in parts if f"{part.name}.tar" not in done]


def finish_run(output: Path, parts: Sequence[Part]) -> tuple[int, int]:
    """Check the results of a run; once complete, remove what killed workers left behind.

    Returns:
        The numbers of missing parts and of failed pictures.
    """
    missing = len(missing_parts(output, parts))
    if not missing:
        _remove(output, ".clipmamba-*")
        _remove(output, ".part-*.tries")
    failed = 0
    for file in output.glob("part-*.failures.jsonl"):
        failed += len(file.read_text(encoding="utf-8").splitlines())
    return missing, failed


def _remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink(missing_ok=True)
