"""One row of the table: how the pictures of one method do in every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipmamba.clip import Clip, encode_prompt
from clipmamba.evaluate import metrics
from clipmamba.evaluate.judge import StageFeatures, StyleJudge, stage_statistics, to_batch
from clipmamba.evaluate.protocol import Case
from clipmamba.losses import directional_loss, random_perspective_crops

Pictures = Sequence[Sequence[Image.Image]]  # a row a prompt, a column a photo


@dataclass(frozen=True)
class Yardstick:
    """What pictures are measured with, the same for every row.

    Attributes:
        network: The judge's eyes.
        judge: Fitted on real pictures.
        reliable: Families of which the judge names at least 80 % of held-out real pictures right.
        texture: For each family, shallow statistics of its real pictures (N, T).
        palettes: For each family, palettes of its real pictures (N, K).
        clips: CLIP models for the directional columns, by name.
    """

    network: StageFeatures
    judge: StyleJudge
    reliable: frozenset[str]
    texture: Mapping[str, NDArray[np.float32]]
    palettes: Mapping[str, NDArray[np.float32]]
    clips: Mapping[str, Clip]


def measure(
    pictures: Pictures,
    photos: Sequence[Image.Image],
    cases: Sequence[Case],
    yardstick: Yardstick,
    other_seed: Pictures | None = None,
) -> dict[str, Any]:
    """Measures what a method made of every photo under every prompt.

    Args:
        pictures: A row for each case, in it a picture for each photo.
        photos: The untouched photos.
        cases: Prompts with their families.
        yardstick: What to measure with.
        other_seed: The first prompts' pictures again with another seed.

    Returns:
        The columns by name, numbers rounded to four places; `by_family` has top-1 per family.
    """
    flat = [picture for row in pictures for picture in row]
    statistics, shallow = stage_statistics(yardstick.network, flat)
    families = [case.family for case in cases for _ in photos]
    named = np.array([bool(family) for family in families])
    known = [family for family in families if family]
    ranks = yardstick.judge.ranks(statistics[named], known)
    sure = np.array([family in yardstick.reliable for family in known])
    texture = [
        _texture_distance(row, yardstick.texture[family])
        for row, family in zip(shallow[named], known, strict=True)
    ]
    palette = [
        metrics.palette_distance(picture, yardstick.palettes[family])
        for picture, family in zip(flat, families, strict=True)
        if family
    ]
    beside = list(photos) * len(cases)
    kept = [metrics.edge_similarity(p, x) for p, x in zip(flat, beside, strict=True)]
    layout = [metrics.layout_similarity(p, x) for p, x in zip(flat, beside, strict=True)]
    by_photo = list(zip(*pictures, strict=True))
    photo_grid = np.exp(np.mean([np.log(metrics.grid_energy(photo)) for photo in photos]))
    grid = [metrics.grid_energy(picture) for picture in flat]
    columns: dict[str, Any] = {
        "top1": (ranks == 0).mean(),
        "top3": (ranks < 3).mean(),
        "top1_reliable": (ranks[sure] == 0).mean() if sure.any() else float("nan"),
        "texture_distance": np.mean(texture),
        "palette_distance": np.mean(palette),
        "edges_kept": np.mean(kept),
        "layout_kept": np.mean(layout),
        "diversity_prompts": np.mean([metrics.diversity(column) for column in by_photo]),
        "grid_energy": np.exp(np.mean(np.log(grid))) / photo_grid,
        "saturated": np.mean([metrics.saturated(picture) for picture in flat]),
        "saturated_photos": np.mean([metrics.saturated(photo) for photo in photos]),
    }
    if other_seed is not None:
        columns["diversity_seeds"] = np.mean(
            [
                metrics.difference(one, two)
                for row, other in zip(pictures, other_seed, strict=False)
                for one, two in zip(row, other, strict=True)
            ]
        )
    for name, clip in yardstick.clips.items():
        whole, patch = _clip_scores(pictures, photos, cases, clip)
        columns[f"clip_direction_{name}"], columns[f"clip_patch_{name}"] = whole, patch
    rounded: dict[str, Any] = {name: round(float(value), 4) for name, value in columns.items()}
    right = ranks == 0
    rounded["by_family"] = {
        family: round(float(right[np.array(known) == family].mean()), 3)
        for family in dict.fromkeys(known)
    }
    return rounded


def _texture_distance(row: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    """Mean distance of the statistics from a family's mean, in the family's own deviations."""
    spread = real.std(0) + 1e-3 * (1 + np.abs(real.mean(0)))
    return float(np.minimum(np.abs(row - real.mean(0)) / spread, 10).mean())


@torch.no_grad()
def _clip_scores(
    pictures: Pictures, photos: Sequence[Image.Image], cases: Sequence[Case], clip: Clip
) -> tuple[float, float]:
    """Directional similarity of whole pictures, and patches' similarity to the prompt."""
    plain = encode_prompt(clip, "photo")
    origin = clip.encode_image(to_batch(photos, clip.image_size).to(clip.device))
    generator = torch.Generator().manual_seed(0)
    whole, patch = [], []
    for case, row in zip(cases, pictures, strict=True):
        words = encode_prompt(clip, case.prompt)
        batch = to_batch(row, 2 * clip.image_size).to(clip.device)
        points = clip.encode_image(batch)
        wanted = (words - plain).expand_as(points)
        whole.append(1 - directional_loss(points - origin, wanted).item())
        crops = random_perspective_crops(batch, 4, output_size=clip.image_size, generator=generator)
        patch.append((clip.encode_image(crops) @ words.T).mean().item())
    return float(np.mean(whole)), float(np.mean(patch))


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown: a line a method, a column a number."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row if c != "by_family"))
    lines = ["| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[c]:.3f}" if c in row else "" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
