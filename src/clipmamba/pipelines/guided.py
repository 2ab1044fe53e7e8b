"""Guidance and stroke as inputs of one call: a view of a network, which itself stays as it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from clipmamba.models import Stylizer
from clipmamba.models import second_design as second
from clipmamba.models.second_design import (
    LARGEST_STROKE,
    LEAST_STROKE,
    NATIVE_SIDE,
    SecondStylizer,
)
from clipmamba.nn import PictureMoments, StyleProjection


@dataclass(frozen=True)
class Guidance:
    """How far style codes are driven away from the middle of many.

    Attributes:
        middle: The mean code of the styles, (code_dim).
        factor: Of a code's distance from the middle; 1 as trained.
    """

    middle: Tensor
    factor: float

    @classmethod
    def of(cls, stylizer: Stylizer | SecondStylizer, styles: Tensor, factor: float) -> Guidance:
        """The guidance of a factor away from the middle of unit style points (N, E)."""
        if isinstance(stylizer, SecondStylizer):
            with torch.no_grad():
                return cls(stylizer.middle_code(styles), factor)
        projection: StyleProjection = copy.copy(stylizer.style)
        projection.guide(styles, factor)
        return cls(projection._middle, factor)

    def applied(
        self, stylizer: Stylizer | SecondStylizer, side: int = NATIVE_SIDE, stroke: float = 1.0
    ) -> Stylizer | SecondView:
        """The same network, its parameters shared, whose style codes are guided.

        Args:
            stylizer: The network.
            side: Longest side in pixels of the picture that it will see: the second design keeps
                strokes in proportion to it.
            stroke: Size of its strokes beside that.
        """
        if isinstance(stylizer, SecondStylizer):
            size = min(max(stroke * side / NATIVE_SIDE, LEAST_STROKE), LARGEST_STROKE)
            return SecondView(stylizer, size, second.Guidance(self.factor, self.middle))
        projection = copy.copy(stylizer.style)
        projection._middle, projection.guidance = self.middle, self.factor
        view = copy.copy(stylizer)
        view._modules = {**stylizer._modules, "style": projection}
        return view


@dataclass(frozen=True)
class SecondView:
    """The second design with the size of its strokes and a guidance.

    Attributes:
        stylizer: The network.
        stroke: Size of the strokes, 1 as on a style picture of some 256 pixels.
        guidance: Of its style codes.
    """

    stylizer: SecondStylizer
    stroke: float
    guidance: second.Guidance

    @property
    def noise_stride(self) -> int:
        """Pixels of the photo to one place of the noise."""
        return self.stylizer.noise_stride

    def __call__(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        """`SecondStylizer.forward`."""
        result: Tensor = self.stylizer(
            photo, style, noise, whole, self._sizes(photo), self.guidance
        )
        return result

    def survey(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        whole: PictureMoments,
        stem_only: bool = False,
    ) -> None:
        """`SecondStylizer.survey`; all it asks for lies in the stem."""
        self.stylizer.survey(photo, style, noise, whole, self._sizes(photo), self.guidance)

    def _sizes(self, photo: Tensor) -> Tensor:
        return torch.full((len(photo),), self.stroke, dtype=torch.float32, device=photo.device)
