"""Photos and style pictures of webdataset shards, listed and drawn in bounded memory.

The lists are files. In memory there are some numbers per style picture, and the names of the looks
that were drawn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmamba.evaluate.protocol import family_of
from clipmamba.train.names import Names, stable_hash, write_names
from clipmamba.train.pictures import FEW, MEDIA, split_of
from clipmamba.train.shards import list_members


def list_photos(data: Path, stem: Path, split: str) -> Names:
    """Write the list of a split's photos; see `split_of`.

    Raises:
        InputError: A shard can't be read.
    """
    places = (place for place, _ in list_members(data, "photo"))
    return write_names(stem, (place for place in places if split_of(Path(place)) == split))


def draw_styles(
    data: Path, stem: Path, split: str, count: int, seed: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Draw style pictures of a split by the rule of `draw_by_look`, and write their list.

    Args:
        data: Folder with the shards.
        stem: Where to write the list; see `Names`.
        split: "training" or "validation".
        count: Number of pictures, at most.
        seed: Seed of the draw.

    Returns:
        The number of the look of each, -1 for none, and the looks by number.

    Raises:
        InputError: A shard can't be read.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
        candidates = write_names(Path(folder) / "candidates", _candidates(data, split))
        hashes = np.fromiter(
            (stable_hash(_look(row)) for row in candidates), np.int64, len(candidates)
        )
        rows, looks, firsts = _draw(hashes, count, seed)
        names = [_look(candidates[row]) for row in firsts]
        write_names(stem, (candidates[row].rpartition("\t")[0] for row in rows))
    return looks, names


def _candidates(data: Path, split: str) -> Iterator[str]:
    """Yield the style pictures of a split, each with a tab and its look."""
    for place, words in list_members(data, "style"):
        if split_of(Path(place)) == split:
            words = words.replace(" | ", ", ")
            look = family_of(words) or words.split(",")[0].strip().lower()
            yield f"{place}\t{'' if look in MEDIA else look}"


def _look(candidate: str) -> str:
    return candidate.rpartition("\t")[2]


def _draw(
    hashes: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw rows, and return them, the numbers of their looks, and the first row of each look."""
    known, firsts, looks, sizes = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    named = (sizes >= FEW) & (known != stable_hash(""))
    sizes = np.where(named, sizes, sizes[~named].sum())
    # The smallest of exponential times: a weighted draw without replacement.
    times = np.random.default_rng(seed).exponential(size=len(hashes)) * np.sqrt(sizes[looks])
    rows = np.sort(np.argsort(times)[:count])
    drawn = np.where(named, np.arange(len(known)), -1)[looks[rows]]
    used = np.unique(drawn[drawn >= 0])
    return rows, np.where(drawn < 0, -1, np.searchsorted(used, drawn)), firsts[used]
