"""The interface between calls of the scan and its backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from clipmamba.errors import InputError

from .watch import has_tangents

DIRECTIONS = 4
"""Number of directions in which a picture is scanned; they are its groups."""

Verdict = tuple[bool, str]
"""Whether it is possible, and the reason."""


class ScanCall(NamedTuple):
    """The properties of a call that decide which backend can run it.

    Attributes:
        device: device of the tensors.
        dtypes: dtypes of u, delta, B, C and, if given, z.
        batch: B. channels: D. states: N. groups: G. length: L.
        needs_grad: whether a gradient of any input is needed.
        last_state_grad: whether a gradient may flow through a returned last state.
        initial_state: whether an initial state is given.
        forward_mode: whether an input carries a tangent, for a forward-mode derivative.
        inputs: the tensors themselves, for their strides; None for a hypothetical call.
    """

    device: torch.device
    dtypes: frozenset[torch.dtype]
    batch: int
    channels: int
    states: int
    groups: int
    length: int
    needs_grad: bool
    last_state_grad: bool
    initial_state: bool
    forward_mode: bool = False
    inputs: ScanInputs | None = None

    def reach(self, first_axis: int) -> int:
        """Compute the largest memory span of any input, in elements, over axes from `first_axis`.

        Dense tensors of the same shapes are included, for results and copies.
        """
        sizes = (self.channels * self.length, self.groups * self.states * self.length)
        dense = max(*sizes, self.channels * self.states) * (1 if first_axis else self.batch)
        if self.inputs is None:
            return dense
        activations = (self.inputs.u, self.inputs.delta, self.inputs.B, self.inputs.C)
        given = (*activations, self.inputs.z, self.inputs.initial_state)
        return max(dense, *(reach(t, first_axis) for t in given if t is not None))


def reach(tensor: Tensor, first_axis: int = 0) -> int:
    """Compute a tensor's memory span, in elements, over its axes from `first_axis`."""
    axes = zip(tensor.shape[first_axis:], tensor.stride()[first_axis:], strict=True)
    return sum((size - 1) * stride for size, stride in axes)


class ScanInputs(NamedTuple):
    """The inputs of a scan; letters as in `clipmamba.ops.selective_scan`.

    This is the only list of a scan's arguments: the operators' schemas are made from it.

    Attributes:
        u: (B, D, L), or a picture (B, D / 4, H, W) that each of 4 groups reads in its own
            direction, L = H * W. float64 is computed in float64, other floating-point dtypes in
            float32.
        delta: (B, D, L).
        A: (D, N).
        B: (B, G, N, L).
        C: (B, G, N, L).
        D: (D) or None.
        z: (B, D, L) or None; always None for a picture.
        delta_bias: (D) or None.
        initial_state: (B, D, N) or None; always None for a picture.
        delta_softplus: whether delta + delta_bias goes through softplus.
        least_delta: added to the step sizes after that.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    initial_state: Tensor | None = None
    delta_softplus: bool = False
    least_delta: float = 0.0

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors among the inputs, which can have gradients."""
        return self[:-2]

    @property
    def picture(self) -> tuple[int, int] | None:
        """Height and width if u is a picture, else None."""
        return (self.u.shape[2], self.u.shape[3]) if self.u.ndim == 4 else None

    def resolved(self) -> ScanInputs:
        """Resolve lazy negation (x.conj().imag), which a pointer can't represent."""
        noted: dict[str, Any] = {
            name: t.resolve_neg()
            for name, t in zip(TENSORS, self.tensors, strict=True)
            if t is not None and t.is_neg()
        }
        return self._replace(**noted) if noted else self

    def call(self, last_state: bool) -> ScanCall:
        """Describe a call with these inputs; `last_state` tells whether it is returned."""
        needs_grad = torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in self.tensors
        )
        activations = (self.u, self.delta, self.B, self.C, self.z)
        batch, channels, length = self.delta.shape
        return ScanCall(
            device=self.u.device,
            dtypes=frozenset(t.dtype for t in activations if t is not None),
            batch=batch,
            channels=channels,
            states=self.A.shape[1],
            groups=self.B.shape[1],
            length=length,
            needs_grad=needs_grad,
            last_state_grad=last_state and needs_grad,
            initial_state=self.initial_state is not None,
            forward_mode=has_tangents(self.tensors),
            inputs=self,
        )


TENSORS = ScanInputs._fields[:-2]
"""Names of the inputs that are tensors, in their order."""


def check_inputs(inputs: ScanInputs, caller: str) -> None:
    """Refuse inputs that no backend can run.

    Args:
        inputs: the inputs, B and C with groups.
        caller: name of the public function, for messages.

    Raises:
        InputError: shapes are inconsistent, tensors complex or integer, or devices differ.
    """
    u, A, B = inputs.u, inputs.A, inputs.B
    if u.ndim not in (3, 4) or A.ndim != 2 or B.ndim != 4 or 0 in u.shape or A.shape[1] == 0:
        raise InputError(
            f"{caller} needs u (B, D, L), A (D, N) and B (B, N, L) or (B, G, N, L), none of "
            f"them empty, not {tuple(u.shape)}, {tuple(A.shape)}, {tuple(B.shape)}"
        )
    batch, groups, states = u.shape[0], B.shape[1], A.shape[1]
    channels, length = u.shape[1], u.shape[2]
    if u.ndim == 4:
        channels, length = channels * DIRECTIONS, length * u.shape[3]
    device, parameter = u.device, (channels,)
    sequence, row = (batch, channels, length), (batch, groups, states, length)
    shapes = (
        *(u.shape, sequence, (channels, states), row, row),  # u, delta, A, B, C
        *(parameter, sequence, parameter),  # D, z, delta_bias
        (batch, channels, states),  # initial_state
    )
    for name, tensor, shape in zip(TENSORS, inputs.tensors, shapes, strict=True):
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise InputError(f"{caller}: {name} is {tuple(tensor.shape)}, not {shape}")
        if not tensor.dtype.is_floating_point:
            raise InputError(f"{caller}: {name} is {tensor.dtype}, not real floating-point")
        if tensor.device != device:
            raise InputError(f"{caller}: {name} is on {tensor.device}, but u on {device}")
    if channels % groups:
        raise InputError(f"{caller}: {channels} channels can't be split into {groups} groups")
    if not 0 <= inputs.least_delta < float("inf"):
        raise InputError(
            f"{caller}: least_delta must be finite and at least 0, not {inputs.least_delta}"
        )


Results = tuple[Tensor, Tensor, Tensor]
"""out, of u's shape and dtype; last state (B, D, N); states at chunk starts (B, chunks, N, D)."""

Gradients = dict[str, Tensor | None]
"""Gradients by the names of `TENSORS`, in any floating-point dtype."""


class Kernel(Protocol):
    """A scan with a backward pass of its own, usually a module.

    Tensors are backed by plain memory, with any strides, and must not be changed.
    """

    def available(self) -> Verdict:
        """Tell whether it can run on this machine."""
        ...

    def supports(self, call: ScanCall) -> Verdict:
        """Tell whether it can run this call."""
        ...

    def chunk_count(self, inputs: ScanInputs) -> int:
        """Count the chunk-start states that `forward` saves."""
        ...

    def forward(self, inputs: ScanInputs, save_states: bool) -> Results:
        """Run the scan; chunk-start states are returned only if `save_states`."""
        ...

    def backward(
        self, dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs
    ) -> Gradients:
        """Compute gradients from those of out and last state (None for 0) and the saved states."""
        ...


ScanFunction = Callable[[ScanInputs, bool], tuple[Tensor, Tensor]]
"""Maps inputs, and whether a gradient is needed, to out (B, D, L) and last state (B, D, N)."""


@dataclass(frozen=True)
class Backend:
    """One way to run the scan.

    Attributes:
        name: the name that users give.
        available: tells whether it can run on this machine; probed once and cached.
        supports: tells whether it can run a call.
        scan: the differentiable scan of sequences, on checked inputs.
        scan_picture: the same for pictures, read in place; None if not supported.
    """

    name: str
    available: Callable[[], Verdict]
    supports: Callable[[ScanCall], Verdict]
    scan: ScanFunction
    scan_picture: ScanFunction | None = None


def decline(call: ScanCall, device: str, dtypes: frozenset[torch.dtype]) -> str | None:
    """Give the reason why a kernel can't run a call, or None; the checks common to all kernels.

    Args:
        call: the call.
        device: device type of the kernel, "cpu" or "cuda".
        dtypes: supported dtypes of u, delta, B, C and z.
    """
    if call.device.type != device:
        return f"the tensors are on {call.device}, not on a {device} device"
    if other := call.dtypes - dtypes:
        takes, given = (", ".join(sorted(_name(t) for t in types)) for types in (dtypes, other))
        return f"takes {takes}, not {given}"
    return no_tangents(call)


def no_tangents(call: ScanCall) -> str | None:
    """Give the reason why a scan with its own backward pass can't run the call, or None."""
    return "has no forward-mode derivative" if call.forward_mode else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def compute_dtype(u: Tensor) -> torch.dtype:
    """Choose the dtype of state and arithmetic: float64 if u is, else float32."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def ceil_div(a: int, b: int) -> int:
    """Divide a by b, rounded up."""
    return (a + b - 1) // b


def to_line(t: Tensor) -> Tensor:
    """Flatten a picture (B, D, H, W) to (B, D, H * W), as a view if its rows are contiguous."""
    return t.flatten(2) if t.ndim == 4 else t


def from_line(t: Tensor, like: Tensor) -> Tensor:
    """Undo `to_line` if `like` is a picture."""
    return torch.unflatten(t, 2, like.shape[2:]) if like.ndim == 4 else t


def result_like(u: Tensor) -> Tensor:
    """Allocate out or du: dense, with u's shape and dtype, and a picture's memory format."""
    if u.ndim == 3:
        return torch.empty(u.shape, dtype=u.dtype, device=u.device)
    return from_line(torch.empty_like(to_line(u)), u)
