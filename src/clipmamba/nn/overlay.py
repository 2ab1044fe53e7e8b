"""Views of a module with some parameters replaced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def with_parameters(module: _Module, tensors: Mapping[str, Tensor]) -> _Module:
    """Make a view of a module with some parameters replaced by tensors.

    Everything else is shared. Unlike `torch.func.functional_call`, it never changes the module, so
    other threads may run it at the same time.

    Args:
        module: The module.
        tensors: Tensors by full parameter name, such as "blocks.0.modulation.bias".

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
