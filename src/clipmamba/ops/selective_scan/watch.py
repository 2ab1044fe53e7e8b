"""Queries that torch offers only privately: what intercepts operators, whether tangents exist.

Going through the operator costs a scan 14 us more in the forward pass and, with generated autograd,
70 us in forward and backward, as much as a short scan itself. So the operator is bypassed if
nothing intercepts it. If this torch lacks the private names, interception is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def _private() -> tuple[Callable[[], bool], Callable[[], bool]] | None:
    """Return two queries: whether a mode, transform or profiler is active; forward mode is open."""
    try:
        modes = torch._C._len_torch_dispatch_stack
        transform = torch._C._functorch.peek_interpreter_stack
        profiler = torch._C._autograd._profiler_enabled

        def at_work() -> bool:
            return modes() > 0 or transform() is not None or profiler()

        def level_is_open() -> bool:
            return forward_ad._current_level >= 0

        at_work(), level_is_open()
    except (AttributeError, TypeError):
        return None
    return at_work, level_is_open


_PRIVATE = _private()


def nobody_watches(tensors: Iterable[Tensor | None]) -> bool:
    """Tell whether an operator on these tensors may be bypassed.

    It may not if something has to see or replace it: a subclass of Tensor, a tracer or other mode,
    vmap or another transform, a profiler, torch.jit.trace.
    """
    if _PRIVATE is None or _PRIVATE[0]() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return all(t is None or type(t) is Tensor or type(t) is Parameter for t in tensors)


def has_tangents(tensors: Iterable[Tensor | None]) -> bool:
    """Tell whether any of these tensors carries a forward-mode tangent."""
    if _PRIVATE is not None and not _PRIVATE[1]():
        return False
    duals = (forward_ad.unpack_dual(t) for t in tensors if t is not None)  # type: ignore[no-untyped-call]
    return any(dual.tangent is not None for dual in duals)
