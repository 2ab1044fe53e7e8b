"""Masks and parts of the photo, as given on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmamba.errors import InputError
from clipmamba.styles.request import Part, StyleRequest

Area = Path | Part


@dataclass(frozen=True)
class Places:
    """The values of `--mask`, `--region`, `--keep` and `--faces`.

    Attributes:
        masks: Where the style goes; none for the whole photo.
        regions: Areas and their prompts.
        kept: Areas where the photo is kept.
        faces: See `StyleRequest.parse`.
    """

    masks: tuple[Area, ...]
    regions: tuple[tuple[Area, str], ...]
    kept: tuple[Area, ...]
    faces: str

    @classmethod
    def of(
        cls, mask: tuple[str, ...], region: tuple[str, ...], keep: tuple[str, ...], faces: str
    ) -> Places:
        """Read the options.

        Raises:
            InputError: A region without area or prompt, an area without a name.
        """
        return cls(
            tuple(map(_area, mask)), tuple(map(_region, region)), tuple(map(_area, keep)), faces
        )

    def request(self, keywords: dict[str, Any], opened: Callable[[Area], Any]) -> StyleRequest:
        """Make the request for a style in these places.

        Args:
            keywords: The style, as for `StyleRequest.parse`.
            opened: Replaces an area, for example by its picture.

        Raises:
            InputError: See `StyleRequest`, or what `opened` raises.
        """
        return StyleRequest.parse(
            **keywords,
            mask=[opened(area) for area in self.masks],
            regions=[(opened(area), wanted) for area, wanted in self.regions],
            keep=[opened(area) for area in self.kept],
            faces=self.faces,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The places for a result's settings; files are named without their folders."""
        masks = [_name(area) for area in self.masks]
        return {
            "mask": masks[0] if len(masks) == 1 else masks,
            "regions": [f"{_name(area)}={words}" for area, words in self.regions],
            "keep": [_name(area) for area in self.kept],
            "faces": None if self.faces == "style" else self.faces,
        }


def _area(text: str) -> Area:
    """A part, or a file."""
    part: Any = Part.of(text)
    return part if isinstance(part, Part) else Path(text)


def _name(area: Area) -> str:
    return area.words if isinstance(area, Part) else area.name


def _region(text: str) -> tuple[Area, str]:
    """Split AREA=PROMPT; a mask's own name may contain an equals sign."""
    places = [place for place, letter in enumerate(text) if letter == "="]
    place = next((p for p in places if os.path.isfile(text[:p])), places[0] if places else -1)
    area, words = text[:place], text[place + 1 :]
    if place < 1 or not words.strip():
        raise InputError(f"--region takes AREA=PROMPT, such as 'sky=starry night', not {text!r}")
    return _area(area), words
