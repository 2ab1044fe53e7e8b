"""Which pictures a command reads, and where each result goes.

Three rules keep photos safe: no two results share a file, no result replaces a photo that the
same run reads, and a result of this or an earlier run is not mistaken for a photo.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clipmamba.cli.terminal import say, warn
from clipmamba.errors import InputError
from clipmamba.files import check_name, reason
from clipmamba.io import WRITABLE, check_output
from clipmamba.io.folders import PICTURES, raw_skipped, walk
from clipmamba.io.formats import RAW, same_format
from clipmamba.io.picture import is_result

Exist = Literal["error", "skip", "overwrite"]
STREAM = "-"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Photo:
    """A picture to read.

    Attributes:
        path: the file; None means standard input.
        place: its path relative to the folder or pattern it was found in; the file name if named.
        named: whether the user named this very file.
    """

    path: Path | None
    place: Path
    named: bool

    def __str__(self) -> str:
        return STREAM if self.path is None else str(self.path)


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes:
        photo: the photo to restyle.
        target: the file to write; None means standard output.
        seed: seed of the variant; None means the default picture.
        skip: whether the result exists already and is kept.
        masks: the file for the mask of each part, by its name.
    """

    photo: Photo
    target: Path | None
    seed: int | None = None
    skip: bool = False
    masks: Mapping[str, Path] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The target as shown to the user."""
        return STREAM if self.target is None else str(self.target)


def collect(
    inputs: Sequence[str], *, recursive: bool = False, output: str | None = None
) -> list[Photo]:
    """Find the pictures that the arguments name.

    A named file is taken as it is, whether it exists or not. Folders are walked in order of names;
    hidden files, files other than pictures, and an output folder inside them are skipped. So are
    RAW files and results of earlier runs, with a line that counts them; results are taken if there
    is nothing else.

    Args:
        inputs: files, folders, globs (``**`` matches subfolders) and ``-`` for standard input.
        recursive: whether folders are allowed.
        output: where results go; a folder that is not searched.

    Returns:
        Each picture once.

    Raises:
        InputError: a folder without ``recursive``, ``-`` twice, an empty name, or no pictures.
    """
    _check_names([*inputs, *([] if output is None else [output])])
    if inputs.count(STREAM) > 1:
        raise InputError("standard input can be read only once: give - once")
    folders = [name for name in inputs if os.path.isdir(name)]
    inner = None if output is None or output == STREAM else os.path.realpath(output)
    if folders and not recursive:
        raise InputError(f"{folders[0]} is a folder; add -r to restyle the pictures in it")
    photos: dict[str, Photo] = {}
    raw: set[str] = set()
    for name in inputs:
        for photo in _expand(name, inner, prefixed=len(folders) > 1):
            if not photo.named and photo.place.suffix.lower() in RAW:
                raw.add(str(photo))
            else:
                photos.setdefault(_key(photo.path) if photo.path else STREAM, photo)
    if raw:
        warn(raw_skipped(raw))
    if not photos:
        raise InputError(f"no pictures in {' '.join(inputs)}")
    return _without_results(list(photos.values()))


def plan(
    photos: Sequence[Photo],
    output: str | None = None,
    *,
    label: str,
    suffix: str | None = None,
    exist: Exist = "error",
    seeds: Sequence[int | None] = (None,),
    masks: Sequence[str] = (),
    read: Sequence[Path] = (),
) -> list[Job]:
    """Choose the file of every result.

    Without ``output`` a result goes beside its photo, named after the style. One named photo goes
    to the file ``output``; in an output folder, file names and subfolders are kept. If two results
    would get the same name, both get the old extension too (``a-jpg.webp``, ``a-png.webp``).

    Args:
        photos: from :func:`collect`.
        output: a file, a folder, ``-`` for standard output, or None.
        label: the style in words.
        suffix: extension of the results; None keeps the photo's if it can be written.
        exist: what to do if a result exists already.
        seeds: one seed per variant. A name that holds the style holds the seed too:
            ``photo-ukiyo-e-seed3.jpg``. With several seeds, every name holds its seed.
        masks: names of the parts whose masks are to be written beside each result.
        read: other files that the run reads, which no mask may replace.

    Returns:
        Jobs in the order of the photos.

    Raises:
        InputError: results can't be written, would collide, or exist already.
    """
    if output is None and photos[0].path is None:
        output = STREAM
    if output == STREAM:
        if len(photos) * len(seeds) > 1:
            raise InputError("standard output takes only one picture: give a folder to -o")
        return [Job(photos[0], None, seeds[0])]

    alone = len(photos) == 1 and photos[0].named
    if output is not None and alone and not _is_folder(output):
        _check_file(Path(output), suffix)
        targets = [Path(output)]
    else:
        root = None if output is None else Path(output)
        if root is not None:
            _check_folder(root, len(photos))
        seed = seeds[0] if len(seeds) == 1 else None
        name = slug(label) + ("" if seed is None else f"-seed{seed}")
        targets = _targets(photos, root, name, suffix)
    jobs = [
        Job(photo, _with_seed(target, seed) if len(seeds) > 1 else target, seed)
        for photo, target in zip(photos, targets, strict=True)
        for seed in seeds
    ]
    written = {_key(job.target) for job in jobs if job.target}
    jobs = [
        job
        for job in jobs
        if alone or job.photo.path is None or _key(job.photo.path) not in written
    ]
    jobs = _settle(_with_masks(jobs, masks, read), exist)
    work = [job for job in jobs if not job.skip]
    _check_targets([job.target for job in work if job.target])
    _check_targets([file for job in work for file in job.masks.values()])
    return jobs


def _expand(name: str, inner: str | None, prefixed: bool) -> Iterator[Photo]:
    """Yield the pictures of one argument."""
    if name == STREAM:
        yield Photo(None, Path("stdin"), named=True)
    elif os.path.isdir(name):
        start = Path(os.path.basename(os.path.abspath(name))) if prefixed else Path()
        for path in walk(name, leave_out=inner):
            yield Photo(path, start / path.relative_to(name), named=False)
    elif _MAGIC.search(name) and not os.path.lexists(name):
        found = sorted(glob.glob(name, recursive=True))
        if not found:
            raise InputError(f"nothing matches {name}")
        fixed = _MAGIC.split(name)[0]
        base = os.path.dirname(fixed)
        # OUT is skipped if it lies below the searched folder, not if it is that folder or above.
        below = inner is not None and _inside(Path(inner).parent, os.path.realpath(base or "."))
        for path in map(Path, found):
            outside = inner is None or not below or not _inside(path, inner)
            if path.is_file() and path.suffix.lower() in PICTURES | RAW and outside:
                place = path.relative_to(base) if base else path
                yield Photo(path, _downwards(place), named=False)
    else:
        yield Photo(Path(name), Path(Path(name).name), named=True)


def _targets(
    photos: Sequence[Photo], root: Path | None, slug: str, suffix: str | None
) -> list[Path]:
    """Choose a separate file for each photo; see :func:`plan`."""
    read = {_key(photo.path) for photo in photos if photo.path}
    targets = []
    for photo in photos:
        target = _target(photo, root, suffix, ("" if root else f"-{slug}"))
        if root and _key(target) in read:  # the same folder in and out
            target = _target(photo, root, suffix, f"-{slug}")
        targets.append(target)
    for index in _meeting(targets):
        target = targets[index]
        old = photos[index].place.suffix.lower().lstrip(".")
        slugged = f"-{slug}" if target.stem.endswith(f"-{slug}") else ""
        targets[index] = _target(photos[index], root, suffix, f"-{old}{slugged}")
    for index in _meeting(targets):
        others = (
            p for p, t in zip(photos, targets, strict=True) if _key(t) == _key(targets[index])
        )
        first, second = list(others)[:2]
        raise InputError(
            f"{first} and {second} would both be written to {targets[index]}; give their common "
            "folder with -r (subfolders are kept), or restyle them one after the other"
        )
    return targets


def _target(photo: Photo, root: Path | None, suffix: str | None, ending: str) -> Path:
    """Name the file of a photo's result: below ``root``, or beside the photo."""
    place = photo.place if root else (photo.path or photo.place)
    kept = place.suffix if place.suffix.lower() in WRITABLE else ".png"
    name = f"{place.stem}{ending}{suffix or kept}"
    return (root or Path()) / place.with_name(name)


def _meeting(targets: Sequence[Path]) -> list[int]:
    """List the indices of targets that share their name with another."""
    count = Counter(map(_key, targets))
    return [index for index, target in enumerate(targets) if count[_key(target)] > 1]


def _check_names(names: Sequence[str]) -> None:
    """Refuse empty names, and relative ones if the working directory is gone."""
    if not all(names):
        raise InputError("a name is empty: give a file, a folder or a pattern")
    try:
        os.getcwd()
    except OSError:
        if not all(name == STREAM or os.path.isabs(name) for name in names):
            raise InputError(
                "the working directory no longer exists: change to another, or give absolute paths"
            ) from None


def _without_results(photos: list[Photo]) -> list[Photo]:
    """Skip results of earlier runs, unless the user named them or there is nothing else."""
    results = {str(p) for p in photos if not p.named and p.path and is_result(p.path)}
    kept = [photo for photo in photos if str(photo) not in results]
    if not results or not kept:
        return photos
    count = _count(len(results), "result")
    say(f"{count} of earlier runs skipped; name one to restyle it", err=True)
    return kept


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _downwards(place: Path) -> Path:
    """Strip every ``..`` from a path, so that it stays below the pattern's folder."""
    parts = Path(os.path.normpath(place)).parts
    return Path(*(part for part in parts if part not in ("..", os.sep, place.anchor)))


def _check_targets(targets: Sequence[Path]) -> None:
    """Refuse names that are too long and read-only folders, before any work."""
    seen: set[Path] = set()
    for target in targets:
        try:
            check_name(target)
        except OSError as error:
            remedy = "give another file or folder with -o"
            raise InputError(f"can't write {target}: {reason(error)}; {remedy}") from error
        folder = target.parent
        if folder not in seen and folder.is_dir() and not os.access(folder, os.W_OK):
            raise InputError(
                f"can't write {target}: the folder {folder} is not writable; give another with -o"
            )
        seen.add(folder)


def _with_masks(jobs: Sequence[Job], masks: Sequence[str], read: Sequence[Path]) -> list[Job]:
    """Name the file of each part's mask, beside the result.

    Results that differ in nothing but the extension have it in the names of their masks, and words
    that look alike get a number.

    Raises:
        InputError: A mask would take the file of a result, or one that the run reads.
    """
    if not masks:
        return list(jobs)
    stems = Counter(_key(job.target.with_suffix("")) for job in jobs if job.target)
    taken = {_key(path): "is read by this run" for path in read}
    taken |= {_key(job.photo.path): "is read by this run" for job in jobs if job.photo.path}
    taken |= {_key(job.target): f"is the result of {job.photo}" for job in jobs if job.target}
    planned = []
    for job in jobs:
        files: dict[str, Path] = {}
        for name in masks:
            assert job.target is not None  # masks are refused on standard output
            extension = job.target.suffix[1:].lower()
            ending = f"-{extension}" if stems[_key(job.target.with_suffix(""))] > 1 else ""
            file = _free(job.target, f"{ending}.{slug(name)}", files.values())
            if _key(file) in taken:
                raise InputError(
                    f"the mask of {name} in {job.photo} would be {file}, which "
                    f"{taken[_key(file)]}; give another folder with -o, or rename the photo"
                )
            files[name] = file
        planned.append(replace(job, masks=files))
    return planned


def _free(target: Path, ending: str, taken: Collection[Path]) -> Path:
    """Name a PNG file like the target with an ending, and with a number if that is taken."""
    file = target.with_name(f"{target.stem}{ending}.png")
    for number in itertools.count(2):
        if file not in taken:
            break
        file = target.with_name(f"{target.stem}{ending}-{number}.png")
    return file


def _settle(jobs: list[Job], exist: Exist) -> list[Job]:
    """Apply ``--exist``."""
    exists = [bool(job.target and os.path.lexists(job.target)) for job in jobs]
    if exist == "skip":
        return [replace(job, skip=skip) for job, skip in zip(jobs, exists, strict=True)]
    if exist == "error" and any(exists):
        first = jobs[exists.index(True)].target
        if len(jobs) == 1:
            raise InputError(f"{first} exists already; choose another name or add --overwrite")
        raise InputError(
            f"{sum(exists)} of {len(jobs)} results exist already, the first is {first}; add "
            "--exist skip to resume, or --exist overwrite"
        )
    old = [file for job in jobs for file in job.masks.values() if os.path.lexists(file)]
    if exist == "error" and old:
        raise InputError(f"the mask {old[0]} exists already; move it, or add --overwrite")
    return jobs


def _is_folder(output: str) -> bool:
    return os.path.isdir(output) or output.endswith(("/", os.sep))


def _check_file(target: Path, suffix: str | None) -> None:
    """Refuse a file that can't be written, or whose format contradicts ``--format``."""
    if not target.suffix:
        raise InputError(
            f"can't write {target}: give it an extension such as .png, or {target}/ for a folder"
        )
    check_output(target, overwrite=True)
    if suffix is not None and not same_format(target.suffix, suffix):
        raise InputError(f"{target} and --format {suffix[1:]} disagree: leave one out")


def _check_folder(root: Path, count: int) -> None:
    """Refuse a folder that can't be created or written; it is created with the first picture."""
    if root.suffix.lower() in WRITABLE and not root.is_dir():
        many = (
            f"{count} pictures don't fit into" if count > 1 else "a folder's pictures can't go to"
        )
        raise InputError(f"{many} one file {root}; give a folder to -o")
    nearest = next(p for p in (root, *root.absolute().parents) if os.path.lexists(p))
    if not nearest.is_dir():
        raise InputError(f"can't write into {root}: {nearest} is a file; give a folder to -o")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"can't write into {root}: the folder {nearest} is not writable")


def slug(label: str) -> str:
    """Make a style's name fit for a file name: letters and digits of any script, and hyphens."""
    return re.sub(r"[\W_]+", "-", label.lower())[:40].strip("-") or "stylized"


def _with_seed(target: Path, seed: int | None) -> Path:
    return target.with_name(f"{target.stem}-seed{seed}{target.suffix}")


def _inside(path: Path, folder: str) -> bool:
    real = os.path.realpath(path)
    return real == folder or real.startswith(os.path.join(folder, ""))


def _key(path: Path) -> str:
    """Make a key that is equal for paths to the same directory entry."""
    return os.path.normcase(os.path.join(os.path.realpath(path.parent), path.name))
