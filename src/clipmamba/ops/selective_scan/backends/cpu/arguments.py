"""The library's arguments; the only place where tensors become pointers.

The library trusts its arguments: it would read and write through a pointer to memory of the wrong
dtype, size or layout. So every tensor is checked here, wherever it comes from.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Sizes(NamedTuple):
    """The fields of `Args` in csrc/args.h before its views, in order.

    Attributes:
        batch: B. groups: G. rows: channels of a group. steps: L. states: N.
        chunk: steps between saved states. chunks: maximum number of saved states.
        slices: tasks per batch element and group.
        softplus: 1 if delta + bias goes through softplus.
        height: height of a picture, 0 for sequences. width: likewise.
        least: minimum step size, a double.
    """

    batch: int
    groups: int
    rows: int
    steps: int
    states: int
    chunk: int
    chunks: int
    slices: int
    softplus: int
    height: int
    width: int
    least: float


# The views follow, six words each, and the pointers, one word each. Every word has 8 bytes.
_VIEWS = ("u", "delta", "z", "B", "C", "out", "dout", "du", "ddelta", "dz")
_POINTERS = (
    *("A", "D", "bias", "starts", "first", "last", "dlast", "dfirst"),
    *("dA", "dD", "dbias", "dB", "dC"),
)
_ABSENT = (0,) * 6
_FIRST, _VIEW = len(Sizes._fields), len(_ABSENT)
_LAST = _FIRST + len(_VIEWS) * _VIEW

FORMAT = f"{_FIRST - 1}qd{_LAST - _FIRST + len(_POINTERS)}q"
ADDRESSES = (*range(_FIRST, _LAST, _VIEW), *range(_LAST, _LAST + len(_POINTERS)))
"""Indices of the words that hold an address, or 0."""

_ARGS = struct.Struct(FORMAT)
SIZE = _ARGS.size

_FLOATS = frozenset({torch.float32})
_ACTIVATIONS = frozenset({torch.float32, torch.bfloat16})


class _View(NamedTuple):
    """Shape and dtypes of a tensor that is accessed with its strides.

    Its channels are groups of `rows`; for (B, G, N, L) tensors, rows is 0.
    """

    name: str
    shape: tuple[int, ...]
    types: frozenset[torch.dtype]
    rows: int


@lru_cache(maxsize=256)
def _expected(sizes: Sizes) -> tuple[list[_View], dict[str, int]]:
    """Compute what each view must be, and the number of elements of each pointer."""
    batch, groups, rows, steps, states = sizes[:5]
    channels = groups * rows
    shared = 1 if sizes.height else groups  # groups of u and similar; directions share a picture
    views = []
    for name in _VIEWS:
        if name in ("B", "C"):
            views.append(_View(name, (batch, groups, states, steps), _ACTIVATIONS, 0))
            continue
        own = shared if name in ("u", "out", "dout", "du") else groups
        added = sizes.height and name in ("out", "du")  # direction after direction
        shape, types = (batch, own * rows, steps), _FLOATS if added else _ACTIVATIONS
        views.append(_View(name, shape, types, rows))
    pointers = dict.fromkeys(_POINTERS, batch * channels * states)
    pointers |= {"A": channels * states, "D": channels, "bias": channels}
    pointers |= {"dD": batch * channels, "dbias": batch * channels}
    pointers["starts"] *= sizes.chunks
    pointers["dB"] = pointers["dC"] = sizes.slices * batch * groups * states * steps
    return views, pointers


def pack(sizes: Sizes, tensors: dict[str, Tensor | None]) -> bytes:
    """Pack the library's arguments.

    Args:
        sizes: the sizes of the call.
        tensors: tensors by the names of `Args`; missing ones or None are absent. A picture is
            (B, D, H * W), and its outputs are float32.

    Raises:
        ValueError: a tensor differs from what the library expects.
    """
    views, pointers = _expected(sizes)
    words: list[float] = [*sizes]
    for name, shape, types, rows in views:
        t = tensors.get(name)
        if t is None:
            words += _ABSENT
            continue
        if t.dtype not in types or t.shape != shape:
            expected = " or ".join(sorted(map(str, types)))
            raise ValueError(f"{name} is {_described(t)}, not {expected} {shape}")
        address, low = _address(name, t), t.dtype == torch.bfloat16
        if rows:
            batch, row, step = t.stride()
            words += (address, low, batch, row * rows, row, step)
        else:
            words += (address, low, *t.stride())
    for name, elements in pointers.items():
        t = tensors.get(name)
        if t is None:
            words.append(0)
            continue
        if t.dtype != torch.float32 or t.numel() != elements or not t.is_contiguous():
            raise ValueError(f"{name} is {_described(t)}, not {elements} contiguous float32")
        words.append(_address(name, t))
    return _ARGS.pack(*words)


def _address(name: str, t: Tensor) -> int:
    address = t.data_ptr()
    if not address or not t.is_cpu or t.is_neg():
        raise ValueError(f"{name} is {_described(t)}, without plain memory on the CPU")
    return address


def _described(t: Tensor) -> str:
    sign = ", negated" if t.is_neg() else ""
    return f"{t.dtype} {tuple(t.shape)} of strides {t.stride()} on {t.device}{sign}"
