"""Parts of a photo that are named by words: found in each photo, and used as masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.regions.words import BACKGROUND, canonical, check_words
from clipmamba.styles.request import Part

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipmamba.pipelines.photo import Photo, Picture
    from clipmamba.regions.find import Segmenter
    from clipmamba.styles.resolve import ResolvedStyle


@dataclass(frozen=True)
class PlacedStyle:
    """A style whose parts have been found in one photo.

    Attributes:
        style: The style, with masks in place of parts.
        masks: The mask of each part by its name, of the photo's size, white where it is.
        notes: What a user should know, such as that a part was not found.
    """

    style: ResolvedStyle
    masks: Mapping[str, Image] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """Each part's share of the photo, up to 1."""
        from PIL import ImageStat

        return {name: ImageStat.Stat(mask).mean[0] / 255 for name, mask in self.masks.items()}


def check_parts(parts: Sequence[Part], segmenter: object) -> None:
    """Refuse parts that can't be found, before anything is loaded.

    Args:
        parts: What to look for.
        segmenter: Finds any words; None without one.

    Raises:
        InputError: One can't be found, or a package is missing.
    """
    check_words([part.words for part in parts if part.offline], segmenter=False)
    named = [part.words for part in parts if not part.offline]
    check_words(named, segmenter=segmenter is not None)


def part_names(parts: Iterable[Part], *, segmenter: bool) -> dict[Part, str]:
    """Name parts for reports: by their words, and apart if two methods look for the same words.

    Args:
        parts: What to look for.
        segmenter: Whether there is a segmenter, which finds all but the offline parts.
    """
    parts = list(parts)
    segmented = {part.words for part in parts if segmenter and not part.offline}
    return {
        part: f"{part.words} (offline)" if part.offline and part.words in segmented else part.words
        for part in parts
    }


class PartPlacer:
    """Finds the parts of a style in photos; caches those of the last photo.

    Args:
        segmenter: Finds any words; None leaves those that are found offline.
    """

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter
        self._photo: Any = None  # kept alive, so that its id is not reused
        self._found: dict[Part, Image] = {}

    def __call__(self, style: ResolvedStyle, photo: Picture | Photo | None) -> PlacedStyle:
        """Find the parts of a style in a photo.

        Args:
            style: The prepared style.
            photo: The photo to restyle.

        Raises:
            InputError: A part can't be found, a package is missing, or the photo is a batch.
            WeightsError: A model can't be loaded.
        """
        if not style.parts:
            return PlacedStyle(style)
        if photo is None:
            raise InputError("a part of a photo can't be found without the photo")
        from clipmamba.pipelines.photo import Mask

        if self._photo is not photo:
            self._photo, self._found = photo, {}
        masks = self._find(photo, style.parts)
        names = part_names(masks, segmenter=self._segmenter is not None)
        notes = [self._note(part, mask) for part, mask in masks.items()]
        return PlacedStyle(
            style.with_masks(lambda area: Mask(masks[area]) if isinstance(area, Part) else area),
            {names[part]: mask for part, mask in masks.items()},
            tuple(dict.fromkeys(note for note in notes if note)),
        )

    def _note(self, part: Part, mask: Image) -> str | None:
        if part.wanted and not mask.getbbox():
            return f"no {part.words} was found in the photo"
        offline = part.offline or self._segmenter is None
        if offline and canonical(part.words) == BACKGROUND and mask.getextrema() == (255, 255):
            return "no person was found in the photo, so all of it is background"
        return None

    def _find(self, photo: Picture | Photo, parts: list[Part]) -> dict[Part, Image]:
        new = [part for part in dict.fromkeys(parts) if part not in self._found]
        if new:
            from clipmamba.pipelines.photo import Photo
            from clipmamba.regions.find import PartFinder

            find = PartFinder(self._segmenter)
            tensor = Photo.open(photo).tensor
            if len(tensor) > 1:
                raise InputError("a part is found in one photo at a time: give a list, not a batch")
            for part in new:
                self._found[part] = find(tensor, part.words, offline=part.offline)
        return {part: self._found[part] for part in dict.fromkeys(parts)}
