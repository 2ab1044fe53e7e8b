"""A row of the evaluation table: the metrics of one method's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmamba.evaluate import marks, metrics
from clipmamba.evaluate.judge import stage_statistics
from clipmamba.evaluate.protocol import FAMILIES, PHOTOGRAPH, Case
from clipmamba.evaluate.ruler import Ruler

CALM = frozenset(family.name for family in FAMILIES if family.calm)
MOST_FLECKS = 1.5  # limit of flecks for calm families, relative to the photo


def measure(
    pictures: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    faces: Sequence[Sequence[tuple[float, float, float, float]]],
    cases: Sequence[Case],
    ruler: Ruler,
) -> dict[str, Any]:
    """Measure the pictures of a method.

    Args:
        pictures: One per case, of its photo's size.
        photos: The untouched photos.
        faces: For each photo, boxes of faces as fractions of width and height; may be empty.
        cases: Wordings with their families and photos.
        ruler: The ruler to measure with.

    Returns:
        The columns by name, rounded to four decimals; `by_family` has top1, top3, flecks and
        stroke size per family.
    """
    beside = [photos[case.photo] for case in cases]
    families = np.array([case.family for case in cases])
    statistics = stage_statistics(ruler.network, pictures)
    ranks = ruler.judge.ranks(statistics, list(families))
    chances = ruler.judge.chances(statistics)
    places = [ruler.judge.families.index(family) for family in families]
    first = np.array(ruler.judge.families)[chances.argmax(1)]
    sure = np.isin(families, sorted(ruler.reliable))
    pairs = list(zip(pictures, beside, strict=True))
    grounds = [marks.Ground(photo) for photo in photos]
    painted = [(p, grounds[case.photo]) for p, case in zip(pictures, cases, strict=True)]
    flecks = np.array([marks.flecks(p, ground) for p, ground in painted])
    own = np.array(
        [
            (marks.texture_at_one_size(p, ground) + marks.QUIET)
            / (ruler.texture[family] + marks.QUIET)  # drawings may have none in flat areas
            for (p, ground), family in zip(painted, families, strict=True)
        ]
    )
    strokes = np.array([marks.stroke_size(p, ground) for p, ground in painted])
    kept = [
        metrics.faces_kept(picture, photo, faces[case.photo])
        for (picture, photo), case in zip(pairs, cases, strict=True)
        if faces[case.photo]
    ]
    by_photo = [
        [p for p, case in zip(pictures, cases, strict=True) if case.photo == number]
        for number in range(len(photos))
    ]
    grid = [np.log(metrics.grid_energy(p) / metrics.grid_energy(x)) for p, x in pairs]
    calm = np.isin(families, sorted(CALM))
    columns: dict[str, Any] = {
        "top1": (ranks == 0).mean(),
        "top3": (ranks < 3).mean(),
        "chance": chances[np.arange(len(places)), places].mean(),
        "top1_reliable": (ranks[sure] == 0).mean() if sure.any() else float("nan"),
        "still_a_photo": (first == PHOTOGRAPH).mean(),
        "edges_kept": np.mean([metrics.edge_similarity(p, x) for p, x in pairs]),
        "faces_kept": np.mean(kept) if kept else float("nan"),
        "layout_kept": np.mean([metrics.layout_similarity(p, x) for p, x in pairs]),
        "flecks": np.exp(np.log(flecks).mean()),
        "flecks_of_style": np.exp(np.log(own + 0.05).mean()),
        "calm": (flecks[calm] <= MOST_FLECKS).mean() if calm.any() else float("nan"),
        "rims": np.exp(np.mean([np.log(marks.rims(p, ground)) for p, ground in painted])),
        "stroke_size": np.nanmedian(strokes) if np.isfinite(strokes).any() else float("nan"),
        "palette_distance": np.mean(
            [
                metrics.palette_distance(p, ruler.palettes[family])
                for p, family in zip(pictures, families, strict=True)
            ]
        ),
        "diversity": np.mean([metrics.diversity(row) for row in by_photo if row]),
        "grid": np.exp(np.mean(grid)),
        "saturated": np.mean([metrics.saturated(p) for p in pictures]),
    }
    by_family = {
        family: _of_family(families == family, ranks, flecks, strokes)
        for family in dict.fromkeys(families.tolist())
    }
    return {**{name: _rounded(value) for name, value in columns.items()}, "by_family": by_family}


def _of_family(
    rows: NDArray[np.bool_],
    ranks: NDArray[np.integer[Any]],
    flecks: NDArray[np.floating[Any]],
    strokes: NDArray[np.floating[Any]],
) -> dict[str, float | None]:
    return {
        "top1": _rounded((ranks[rows] == 0).mean()),
        "top3": _rounded((ranks[rows] < 3).mean()),
        "flecks": _rounded(np.median(flecks[rows])),
        "stroke_size": _rounded(np.median(strokes[rows])),
    }


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Format two Markdown tables: a row per method, and top1 and top3 with a row per family."""
    columns = [c for c in next(iter(rows.values())) if c != "by_family"]
    lines = ["| row | " + " | ".join(c.replace("_", " ") for c in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = [_cell(row[c]) for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| top1, top3 | " + " | ".join(rows) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    for family in dict.fromkeys(name for row in rows.values() for name in row["by_family"]):
        found = [row["by_family"].get(family) for row in rows.values()]
        cells = [f"{f['top1']:.2f}, {f['top3']:.2f}" if f else "" for f in found]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _rounded(value: float) -> float | None:
    """Round to four decimals; NaN becomes None, which JSON supports."""
    return round(float(value), 4) if np.isfinite(value) else None


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
