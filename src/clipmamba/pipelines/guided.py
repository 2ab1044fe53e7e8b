"""Guidance and stroke size, applied through a view of a network, which itself stays unchanged."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from clipmamba.models import Stylizer
from clipmamba.models import second_design as second
from clipmamba.models.second_design import (
    NATIVE_SIDE,
    SecondStylizer,
    SecondView,
    stroke_for_network,
)
from clipmamba.nn import StyleProjection


@dataclass(frozen=True)
class Guidance:
    """Extrapolation of style codes away from their mean.

    Attributes:
        middle: The mean code of many styles, (code_dim,).
        factor: Factor on a code's distance from the mean; 1 leaves it as trained.
    """

    middle: Tensor
    factor: float

    @classmethod
    def of(cls, stylizer: Stylizer | SecondStylizer, styles: Tensor, factor: float) -> Guidance:
        """Make a guidance away from the mean code of unit style points (N, E)."""
        if isinstance(stylizer, SecondStylizer):
            with torch.no_grad():
                return cls(stylizer.middle_code(styles), factor)
        projection: StyleProjection = copy.copy(stylizer.style)
        projection.guide(styles, factor)
        return cls(projection._middle, factor)

    def applied(
        self, stylizer: Stylizer | SecondStylizer, side: int = NATIVE_SIDE, stroke: float = 1.0
    ) -> Stylizer | SecondView:
        """Make a view of a network with guided style codes; it shares the parameters.

        Args:
            stylizer: The network.
            side: Longest side of its input in pixels; the second design keeps strokes in
                proportion to it.
            stroke: Stroke size relative to that.
        """
        if isinstance(stylizer, SecondStylizer):
            asked = torch.tensor(stroke, dtype=torch.float32, device="cpu")
            size = stroke_for_network(asked, side).item()
            return SecondView(stylizer, size, second.Guidance(self.factor, self.middle))
        projection = copy.copy(stylizer.style)
        projection._middle, projection.guidance = self.middle, self.factor
        view = copy.copy(stylizer)
        view._modules = {**stylizer._modules, "style": projection}
        return view
