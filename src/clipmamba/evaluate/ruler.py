"""What pictures are measured with: judge, palettes, textures and photos, kept in one folder.

A ruler is made once from the training pictures by `scripts/evaluate.py`; the folder is all that a
quick look at a trial network needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.evaluate.judge import StageFeatures, StyleJudge
from clipmamba.evaluate.metrics import Array
from clipmamba.evaluate.protocol import Photo
from clipmamba.io import read_picture

WELL = 0.8  # share named right of a family that the judge knows well


@dataclass(frozen=True)
class Ruler:
    """What pictures are measured with, the same for every row.

    Attributes:
        judge: Fitted on real pictures.
        accuracy: For each family, the share of real pictures that judges fitted without them
            name right.
        palettes: For each family, palettes of its real pictures (N, K).
        texture: For each family, the usual texture of its real pictures' calm places.
    """

    judge: StyleJudge
    accuracy: Mapping[str, float]
    palettes: Mapping[str, Array]
    texture: Mapping[str, float]

    @cached_property
    def network(self) -> StageFeatures:
        """The judge's eyes."""
        return StageFeatures()

    @property
    def reliable(self) -> frozenset[str]:
        """Families that the judge knows well."""
        return frozenset(name for name, share in self.accuracy.items() if share >= WELL)

    def save(self, folder: Path) -> None:
        """Write the ruler into a folder; its photos stand there already."""
        arrays: dict[str, Any] = {f"palettes/{name}": rows for name, rows in self.palettes.items()}
        arrays |= {name: getattr(self.judge, name) for name in ("middle", "spread")}
        arrays |= {name: getattr(self.judge, name) for name in ("weight", "bias")}
        np.savez(folder / "ruler.npz", **arrays)
        facts = {
            "families": self.judge.families,
            "accuracy": dict(self.accuracy),
            "texture": dict(self.texture),
        }
        (folder / "ruler.json").write_text(json.dumps(facts, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Ruler:
        """Read a ruler.

        Raises:
            InputError: None has been made in this folder.
        """
        if not (folder / "ruler.json").is_file():
            raise InputError(f"no ruler in {folder}; make it by scripts/evaluate.py --data DATA")
        facts = json.loads((folder / "ruler.json").read_text())
        with np.load(folder / "ruler.npz") as arrays:
            judge = StyleJudge(
                facts["families"],
                arrays["middle"],
                arrays["spread"],
                arrays["weight"],
                arrays["bias"],
            )
            palettes = {
                key.removeprefix("palettes/"): arrays[key]
                for key in arrays.files
                if key.startswith("palettes/")
            }
        return cls(judge, facts["accuracy"], palettes, facts["texture"])


def read_photos(folder: Path, photos: Sequence[Photo], size: int) -> list[Image.Image]:
    """The ruler's photos with their longest side at `size` px."""
    return [fit(read_picture(folder / "photos" / f"{p.name}.png"), size) for p in photos]


def fit(image: Image.Image, size: int) -> Image.Image:
    """The whole picture as RGB with its longest side at `size` px, smaller or larger."""
    scale = size / max(image.size)
    wanted = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(wanted, Image.Resampling.LANCZOS)
