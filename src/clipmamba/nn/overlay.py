"""A module seen with other values of some parameters, and itself left alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def with_parameters(module: _Module, tensors: Mapping[str, Tensor]) -> _Module:
    """Make a view of a module with some tensors in place of its parameters.

    All else is shared. Unlike `torch.func.functional_call` it changes the module at no time, so
    that other threads may run it meanwhile.

    Args:
        module: Stays as it is.
        tensors: By the parameters' full names, such as "blocks.0.modulation.bias".

    Raises:
        KeyError: The module has no such parameter.
    """
    view = copy.copy(module)
    view._parameters = dict(module._parameters)
    view._modules = dict(module._modules)
    inside: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            inside.setdefault(first, {})[rest] = tensor
        elif first in view._parameters:
            view._parameters[first] = tensor  # type: ignore[assignment]  # a plain tensor will do
        else:
            raise KeyError(f"{type(module).__name__} has no parameter {name!r}")
    for child, values in inside.items():
        if (part := view._modules.get(child)) is None:
            raise KeyError(f"{type(module).__name__} has no module {child!r}")
        view._modules[child] = with_parameters(part, values)
    return view
