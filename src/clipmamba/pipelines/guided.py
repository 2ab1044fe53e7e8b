"""Guidance as an input of one call: a view of a network, which itself stays as it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor

from clipmamba.models import Stylizer
from clipmamba.nn import StyleProjection


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
    def of(cls, stylizer: Stylizer, styles: Tensor, factor: float) -> Guidance:
        """The guidance of a factor away from the middle of unit style points (N, E)."""
        projection: StyleProjection = copy.copy(stylizer.style)
        projection.guide(styles, factor)
        return cls(projection._middle, factor)

    def applied(self, stylizer: Stylizer) -> Stylizer:
        """The same network, its parameters shared, whose style codes are guided."""
        projection = copy.copy(stylizer.style)
        projection._middle, projection.guidance = self.middle, self.factor
        view = copy.copy(stylizer)
        view._modules = {**stylizer._modules, "style": projection}
        return view
