"""Quick evaluation of a trial network, with wordings and photos that the table does not use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from clipmamba.evaluate.protocol import TRIAL_PHOTOS, Case, trial_cases
from clipmamba.evaluate.ruler import Ruler, read_photos
from clipmamba.evaluate.table import measure

RULER = Path("runs/evaluate/ruler")


class Result(Protocol):
    """The output of a pipeline."""

    images: Any


class Pipeline(Protocol):
    """A callable that restyles photos, such as `clipmamba.StylizePipeline`."""

    def __call__(self, image: Any, *, prompt: str) -> Result:
        """Restyle a list of photos."""
        ...


def quick(pipeline: Pipeline, ruler: Path = RULER, size: int = 512) -> dict[str, Any]:
    """Evaluate a pipeline on 4 photos with 2 wordings of each family.

    Args:
        pipeline: A pipeline.
        ruler: Folder of a ruler made by `scripts/evaluate.py`.
        size: Longest side of the photos in pixels.

    Returns:
        A row of the table, see `table.measure`.

    Raises:
        InputError: The folder has no ruler.
    """
    known = Ruler.load(ruler)
    photos = read_photos(ruler, TRIAL_PHOTOS, size)
    cases = trial_cases(len(photos))
    faces = [photo.faces for photo in TRIAL_PHOTOS]
    return measure(paint(pipeline, photos, cases), photos, faces, cases, known)


def paint(
    pipeline: Pipeline, photos: Sequence[Image.Image], cases: Sequence[Case]
) -> list[Image.Image]:
    """Restyle the photo of every case; one call per wording."""
    asked: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        asked.setdefault(case.prompt, []).append(place)
    pictures: dict[int, Image.Image] = {}
    for prompt, places in asked.items():
        images = pipeline([photos[cases[place].photo] for place in places], prompt=prompt).images
        pictures |= dict(zip(places, images, strict=True))
    return [pictures[place].convert("RGB") for place in range(len(cases))]
