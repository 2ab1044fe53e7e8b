"""Settings and outcome of a refinement; does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from clipmamba.errors import InputError
from clipmamba.pipelines.options import is_number, is_whole

MAX_STEPS = 10_000


@dataclass(frozen=True)
class RefineOptions:
    """The settings of a refinement, with their defaults and limits.

    Args:
        steps: Maximum number of steps; the optimization stops early when the loss stops falling.
        clip: The CLIP model of the losses, a name as in `Clip.from_pretrained` or a folder; None
            for the pipeline's own.
        side: Longest side in pixels at which a picture is optimized; a larger photo is then painted
            at its own size.
        crops: Random perspective crops per step.
        crop_fraction: Side of the crops, relative to the picture's shorter side.
        threshold: Crops with a loss below it are ignored.
        rate: Adam's learning rate for the style code.
        patch: Weight of the crops' directional loss; that of the whole picture has weight 1.
        edges: Weight of the loss of edges, beyond that of the network's result.
        texture: Weight of added and of faded local contrast.
        patience: Steps without improvement after which the optimization stops.
        min_delta: Smallest decrease of the smoothed loss that counts as an improvement.

    Raises:
        InputError: A value is out of range.
    """

    steps: int = 60
    clip: str | None = None
    side: int = 320
    crops: int = 6
    crop_fraction: float = 0.4
    threshold: float = 0.3
    rate: float = 0.32
    patch: float = 1.0
    edges: float = 40.0
    texture: float = 50.0
    patience: int = 20
    min_delta: float = 0.002

    def __post_init__(self) -> None:
        for name in ("steps", "side", "crops", "patience"):
            least = {"steps": 0, "side": 32}.get(name, 1)
            if not (is_whole(value := getattr(self, name)) and least <= value <= MAX_STEPS):
                raise InputError(
                    f"{_words(name)} must be a whole number from {least} to {MAX_STEPS}, "
                    f"not {value}"
                )
        for name, most in (("crop_fraction", 1.0), ("threshold", 2.0)):
            if not (is_number(value := getattr(self, name)) and 0 <= value <= most):
                raise InputError(f"{_words(name)} must lie between 0 and {most:g}, not {value}")
        for name in ("rate", "patch", "edges", "texture", "min_delta"):
            if not (is_number(value := getattr(self, name)) and value >= 0):
                raise InputError(f"{_words(name)} must be a number from 0 up, not {value}")
        if self.crop_fraction == 0:
            raise InputError("refine: crop_fraction must be more than 0")
        if self.clip is not None and not str(self.clip).strip():
            raise InputError("refine: the name of the CLIP is empty")

    @classmethod
    def of(cls, refine: int | RefineOptions) -> RefineOptions | None:
        """Convert a number of steps to settings; None for 0 steps.

        Raises:
            InputError: The number is not a whole number from 0 up.
        """
        options = refine if isinstance(refine, RefineOptions) else cls(steps=refine)
        return options if options.steps else None


@dataclass(frozen=True)
class Refinement:
    """The outcome for one picture.

    Attributes:
        steps: Number of steps taken.
        before: Loss of the network's result.
        after: Loss of the refined picture, on the same crops.
    """

    steps: int
    before: float
    after: float

    @property
    def kept(self) -> bool:
        """Whether the refined picture has a lower loss and was kept."""
        return self.after < self.before


def _words(name: str) -> str:
    return "refine" if name == "steps" else f"refine: {name}"
