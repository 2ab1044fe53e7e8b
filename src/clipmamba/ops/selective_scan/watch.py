"""What torch tells only in private: whether someone watches operators, whether tangents exist.

A scan through its operator costs 14 us more forth and, with generated autograd, 70 forth and back,
as much as a short scan itself; so it is called without where nobody would notice. Where this torch
does not have the private names any more, somebody always watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def _private() -> tuple[Callable[[], bool], Callable[[], bool]] | None:
    """Is a mode, a function transform or a profiler at work? Is a forward-mode level open?"""
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
    """Whether an operator on these tensors may be left out.

    It may not where something would have to see or replace it: a subclass of Tensor, a tracer or
    other mode, vmap or another transform, a profiler, torch.jit.trace.
    """
    if _PRIVATE is None or _PRIVATE[0]() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return all(t is None or type(t) is Tensor or type(t) is Parameter for t in tensors)


def has_tangents(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a forward-mode derivative is on its way through any of these."""
    if _PRIVATE is not None and not _PRIVATE[1]():
        return False
    duals = (forward_ad.unpack_dual(t) for t in tensors if t is not None)  # type: ignore[no-untyped-call]
    return any(dual.tangent is not None for dual in duals)
