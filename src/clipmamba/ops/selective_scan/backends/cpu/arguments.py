"""A call as the library takes it, and the one place where tensors become pointers.

The library trusts what it is handed: a pointer to memory of another type, size or order than it
expects would be read and written all the same. So every tensor is checked here, whoever made it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import torch
from torch import Tensor


class Sizes(NamedTuple):
    """`Args` of csrc/args.h up to its views, in its order.

    Attributes:
        batch: B. groups: G. rows: channels of a group. steps: L. states: N.
        chunk: steps between saved states. chunks: how many are saved at most.
        slices: tasks for each batch element and group.
        softplus: 1 if delta + bias goes through it.
        height: of a picture, 0 for sequences. width: likewise.
        least: least step size, a double.
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


# Then come the views, six words each, and the pointers, one each. Everything has 8 bytes.
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
"""Places among the words that hold an address, or 0."""

_ARGS = struct.Struct(FORMAT)
SIZE = _ARGS.size

_LIKE_U = frozenset({"u", "out", "dout", "du"})
_BY_GROUP = frozenset({"B", "C"})
_FLOATS = frozenset({torch.float32})
_ACTIVATIONS = frozenset({torch.float32, torch.bfloat16})


def pack(sizes: Sizes, tensors: dict[str, Tensor | None]) -> bytes:
    """The library's arguments.

    Args:
        sizes: of the call.
        tensors: by the names of `Args`; those that are missing or None are absent. A picture is
            (B, D, H * W), and what is written for it is float32.

    Raises:
        ValueError: a tensor is not what the library would take it for.
    """
    batch, groups, rows, steps, states = sizes[:5]
    channels = groups * rows
    shared = 1 if sizes.height else groups  # of u and its like: a picture's directions share it
    words: list[float] = [*sizes]
    for name in _VIEWS:
        t = tensors.get(name)
        if t is None:
            words += _ABSENT
        elif name in _BY_GROUP:
            words += _view(name, t, (batch, groups, states, steps), _ACTIVATIONS)
        else:
            own = shared if name in _LIKE_U else groups
            added = sizes.height and name in ("out", "du")
            types = _FLOATS if added else _ACTIVATIONS
            words += _view(name, t, (batch, own * rows, steps), types, own)
    per_state, per_slice = channels * states, sizes.slices * batch * groups * states * steps
    numbers = {
        "A": per_state,
        "D": channels,
        "bias": channels,
        "starts": batch * sizes.chunks * per_state,
        "dD": batch * channels,
        "dbias": batch * channels,
        "dB": per_slice,
        "dC": per_slice,
    }
    for name in _POINTERS:
        t = tensors.get(name)
        words.append(0 if t is None else _pointer(name, t, numbers.get(name, batch * per_state)))
    return _ARGS.pack(*words)


def _view(
    name: str, t: Tensor, shape: tuple[int, ...], types: frozenset[torch.dtype], groups: int = 0
) -> tuple[int, ...]:
    """A (B, D, L) tensor with its channels in groups, or a (B, G, N, L) tensor if groups is 0."""
    if t.dtype not in types or t.shape != shape:
        expected = " or ".join(sorted(map(str, types)))
        raise ValueError(f"{name} is {_described(t)}, not {expected} {shape}")
    low = t.dtype == torch.bfloat16
    address = _address(name, t)
    if not groups:
        return (address, low, *t.stride())
    batch, row, step = t.stride()
    return (address, low, batch, row * (shape[1] // groups), row, step)


def _pointer(name: str, t: Tensor, elements: int) -> int:
    if t.dtype != torch.float32 or t.numel() != elements or not t.is_contiguous():
        raise ValueError(f"{name} is {_described(t)}, not {elements} contiguous float32")
    return _address(name, t)


def _address(name: str, t: Tensor) -> int:
    address = t.data_ptr()
    if not t.is_cpu or t.is_neg() or not address:
        raise ValueError(f"{name} is {_described(t)}, without plain memory on the CPU")
    return address


def _described(t: Tensor) -> str:
    sign = ", negated" if t.is_neg() else ""
    return f"{t.dtype} {tuple(t.shape)} of strides {t.stride()} on {t.device}{sign}"
