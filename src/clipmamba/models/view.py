"""A stylizer with a fixed stroke size and guidance, as the pipeline runs it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from clipmamba.models.stylizer import Guidance, Stylizer
from clipmamba.nn import PictureMoments, TileMoments


@dataclasses.dataclass(frozen=True)
class StylizerView:
    """A stylizer with a fixed stroke size and guidance; it shares the parameters.

    Attributes:
        stylizer: The network.
        stroke: Stroke size, 1 as on a style picture of some 256 pixels.
        guidance: Extrapolation of its style codes.
    """

    stylizer: Stylizer
    stroke: float
    guidance: Guidance

    @property
    def noise_stride(self) -> int:
        """Pixels of the photo per position of the noise."""
        return self.stylizer.noise_stride

    @property
    def norms(self) -> int:
        """Number of norms, each of which needs a survey of all tiles."""
        return self.stylizer.norms

    def __call__(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor | None = None,
        whole: PictureMoments | None = None,
    ) -> Tensor:
        """Run `Stylizer.forward`."""
        result: Tensor = self.stylizer(
            photo, style, noise, whole, self._sizes(photo), self.guidance
        )
        return result

    def survey(self, photo: Tensor, style: Tensor, noise: Tensor, whole: TileMoments) -> None:
        """Run `Stylizer.survey`."""
        self.stylizer.survey(photo, style, noise, whole, self._sizes(photo), self.guidance)

    def _sizes(self, photo: Tensor) -> Tensor:
        return torch.full((len(photo),), self.stroke, dtype=torch.float32, device=photo.device)
