"""The ruler for evaluations: judge, palettes, textures and photos, in one folder.

`scripts/evaluate.py` makes a ruler once from the training pictures; the quick evaluation needs
nothing but its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.evaluate.judge import StageFeatures, StyleJudge, stage_statistics
from clipmamba.evaluate.metrics import Array
from clipmamba.evaluate.protocol import Photo
from clipmamba.io import read_picture

WELL = 0.8  # accuracy from which the judge knows a family well


@dataclass(frozen=True)
class Ruler:
    """Everything that pictures are measured with, the same for every row.

    Attributes:
        judge: The judge, fitted on real pictures.
        accuracy: Cross-validated accuracy of the judge per family.
        palettes: Palettes (N, K) of each family's real pictures.
        texture: Typical texture in flat areas of each family's real pictures.
    """

    judge: StyleJudge
    accuracy: Mapping[str, float]
    palettes: Mapping[str, Array]
    texture: Mapping[str, float]

    @cached_property
    def network(self) -> StageFeatures:
        """The judge's feature extractor."""
        return StageFeatures()

    @property
    def reliable(self) -> frozenset[str]:
        """The families that the judge knows well."""
        return frozenset(name for name, share in self.accuracy.items() if share >= WELL)

    def chances(self, pictures: Sequence[Image.Image], family: str) -> NDArray[np.float64]:
        """Compute the probability that the judge gives to one family, for each picture, (N,)."""
        chances = self.judge.chances(stage_statistics(self.network, pictures))
        column: NDArray[np.float64] = chances[:, self.judge.families.index(family)]
        return column

    def save(self, folder: Path) -> None:
        """Write the ruler to a folder, which already has its photos."""
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
        """Load a ruler.

        Raises:
            InputError: The folder has no ruler.
        """
        if not (folder / "ruler.json").is_file():
            raise InputError(f"no ruler in {folder}; make one with scripts/evaluate.py --data DATA")
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
    """Read the ruler's photos, with their longest side at `size` pixels."""
    return [fit(read_picture(folder / "photos" / f"{p.name}.png"), size) for p in photos]


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize a picture to a longest side of `size` pixels, as RGB."""
    scale = size / max(image.size)
    wanted = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(wanted, Image.Resampling.LANCZOS)
