"""Parts of a photo that are named by words: found in each photo, and used as masks."""

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
        style: The style, with masks in place of parts.
        masks: The mask of each part by its words, of the photo's size, white where it is.
        missing: Words of parts that were not found.
    """

    style: ResolvedStyle
    masks: Mapping[str, Image] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """Each part's share of the photo, up to 1."""
        from PIL import ImageStat

        return {words: ImageStat.Stat(mask).mean[0] / 255 for words, mask in self.masks.items()}


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


class PartPlacer:
    """Finds the parts of a style in photos; caches those of the last photo.

    Args:
        segmenter: Finds any words; None leaves those that are found offline.
    """

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter
        self._photo: Any = None  # kept alive, so that its id is not reused
        self._found: dict[Part, Image] = {}

    def __call__(self, style: ResolvedStyle, photo: Picture | None) -> PlacedStyle:
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
