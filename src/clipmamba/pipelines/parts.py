"""Parts that words name, found in each photo and put in their place in the style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.regions.words import check_words
from clipmamba.styles.request import Part

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipmamba.pipelines.photo import Picture
    from clipmamba.regions.find import Segmenter
    from clipmamba.styles.resolve import ResolvedStyle


@dataclass(frozen=True)
class PlacedStyle:
    """A style whose parts have been found in one photo.

    Attributes:
        style: What the pipeline is given.
        masks: Each part by its words: grey, white where it is, of the photo's size.
        missing: Words that were looked for and found nowhere.
    """

    style: ResolvedStyle
    masks: Mapping[str, Image] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """How much of the photo each part is, up to 1."""
        from PIL import ImageStat

        return {words: ImageStat.Stat(mask).mean[0] / 255 for words, mask in self.masks.items()}


def check_parts(parts: Sequence[Part], segmenter: object) -> None:
    """Refuse parts that nothing here can find, before anything is loaded.

    Args:
        parts: What is looked for.
        segmenter: Finds any words; None without one.

    Raises:
        InputError: One can't be found, or a package is missing.
    """
    check_words([part.words for part in parts if part.offline], segmenter=False)
    named = [part.words for part in parts if not part.offline]
    check_words(named, segmenter=segmenter is not None)


class PartPlacer:
    """Finds the parts of a style in photos; those of the last photo are remembered.

    Args:
        segmenter: Finds any words; None for those that are found offline.
    """

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter
        self._photo: Any = None  # itself, so that no other one can take its id over
        self._found: dict[Part, Image] = {}

    def __call__(self, style: ResolvedStyle, photo: Picture | None) -> PlacedStyle:
        """Find the parts of a style in a photo.

        Args:
            style: As it was prepared.
            photo: What is restyled.

        Raises:
            InputError: Nothing here finds such a thing, a package is missing, or there is more
                than one photo to look at.
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
        missing = [part.words for part in masks if part.wanted and not masks[part].getbbox()]
        return PlacedStyle(
            style.with_masks(lambda area: Mask(masks[area]) if isinstance(area, Part) else area),
            {part.words: mask for part, mask in masks.items()},
            tuple(dict.fromkeys(missing)),
        )

    def _find(self, photo: Picture, parts: list[Part]) -> dict[Part, Image]:
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
