"""The stylizer network and the weights that ship with it."""

from clipmamba.models.stylizer import Stylizer

__all__ = ["Stylizer"]
