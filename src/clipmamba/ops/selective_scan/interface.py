"""What a call of the scan looks like to a backend, and what a backend must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from clipmamba.errors import InputError

from .watch import has_tangents

DIRECTIONS = 4
"""In which a picture is scanned: its groups."""

Verdict = tuple[bool, str]
"""Yes or no, with the reason."""


class ScanCall(NamedTuple):
    """The facts about one call that decide which backend can run it.

    Attributes:
        device: where the tensors are.
        dtypes: element types of u, delta, B, C and, if given, z.
        batch: B. channels: D. states: N. groups: G. length: L.
        needs_grad: a gradient of any input will be wanted.
        last_state_grad: the last state is returned and a gradient may come back through it.
        initial_state: the scan does not start from zeros.
        forward_mode: an input carries a tangent, so a forward-mode derivative is wanted.
        inputs: the tensors themselves, for their strides; none where a call is only asked about.
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
        """Elements between the first and the last of any input, over its axes from this one on.

        Dense tensors of the same shapes are counted, too: results and copies are such.
        """
        sizes = (self.channels * self.length, self.groups * self.states * self.length)
        dense = max(*sizes, self.channels * self.states) * (1 if first_axis else self.batch)
        if self.inputs is None:
            return dense
        activations = (self.inputs.u, self.inputs.delta, self.inputs.B, self.inputs.C)
        given = (*activations, self.inputs.z, self.inputs.initial_state)
        return max(dense, *(reach(t, first_axis) for t in given if t is not None))


def reach(tensor: Tensor, first_axis: int = 0) -> int:
    """Elements of memory between a tensor's first and last, over its axes from this one on."""
    axes = zip(tensor.shape[first_axis:], tensor.stride()[first_axis:], strict=True)
    return sum((size - 1) * stride for size, stride in axes)


class ScanInputs(NamedTuple):
    """What every backend computes with; letters as in `clipmamba.ops.selective_scan`.

    The one list of a scan's arguments: the operators' schemas are made from it.

    Attributes:
        u: (B, D, L), or a picture (B, D / 4, H, W) that each of 4 groups reads in its own
            direction, L = H * W. Floating; float64 is computed in float64, all else in float32.
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
        """All but the flag and the number: what has a gradient."""
        return self[:-2]

    @property
    def picture(self) -> tuple[int, int] | None:
        """Height and width, where u is a picture."""
        return (self.u.shape[2], self.u.shape[3]) if self.u.ndim == 4 else None

    def resolved(self) -> ScanInputs:
        """With signs that torch has only noted (x.conj().imag) written out: a pointer has none."""
        noted: dict[str, Any] = {
            name: t.resolve_neg()
            for name, t in zip(TENSORS, self.tensors, strict=True)
            if t is not None and t.is_neg()
        }
        return self._replace(**noted) if noted else self

    def call(self, last_state: bool) -> ScanCall:
        """The facts of a call with these inputs that returns the last state or not."""
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
    """Refuse what no backend can run.

    Args:
        inputs: as the caller got them, B and C with groups.
        caller: name of the public function, for the message.

    Raises:
        InputError: shapes that don't fit, complex or integer tensors, several devices.
    """
    u, A, B = inputs.u, inputs.A, inputs.B
    if u.ndim not in (3, 4) or A.ndim != 2 or B.ndim != 4 or 0 in u.shape or A.shape[1] == 0:
        raise InputError(
            f"{caller} wants u (B, D, L), A (D, N) and B (B, N, L) or (B, G, N, L), none of "
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
            raise InputError(f"{caller}: {name} is {tensor.dtype}, not a real floating type")
        if tensor.device != device:
            raise InputError(f"{caller}: {name} is on {tensor.device}, u on {device}")
    if channels % groups:
        raise InputError(f"{caller}: {channels} channels can't be split in {groups} groups")
    if not 0 <= inputs.least_delta < float("inf"):
        raise InputError(
            f"{caller}: least_delta must be a number from 0 up, not {inputs.least_delta}"
        )


Results = tuple[Tensor, Tensor, Tensor]
"""out, in u's shape and type; last state (B, D, N); states at chunk starts (B, chunks, N, D)."""

Gradients = dict[str, Tensor | None]
"""By the names of `TENSORS`, in any floating type."""


class Kernel(Protocol):
    """A scan with a backward pass of its own; a module is one.

    Tensors arrive with plain memory behind them, of any strides, and are not to be changed.
    """

    def available(self) -> Verdict:
        """Can it run on this machine at all?"""
        ...

    def supports(self, call: ScanCall) -> Verdict:
        """Can it run this very call?"""
        ...

    def chunk_count(self, inputs: ScanInputs) -> int:
        """How many chunk-start states `forward` saves."""
        ...

    def forward(self, inputs: ScanInputs, save_states: bool) -> Results:
        """Run the scan; no chunks unless save_states."""
        ...

    def backward(
        self, dout: Tensor, dlast: Tensor | None, saved: Tensor, inputs: ScanInputs
    ) -> Gradients:
        """Gradients from that of out, that of the last state (None: zero) and `forward`'s saved."""
        ...


ScanFunction = Callable[[ScanInputs, bool], tuple[Tensor, Tensor]]
"""Inputs and whether a gradient will be wanted, to out (B, D, L) and last state (B, D, N)."""


@dataclass(frozen=True)
class Backend:
    """One way to run the scan.

    Attributes:
        name: what users write.
        available: can it run on this machine at all? Probed once; the reason is kept.
        supports: can it run this very call?
        scan: the differentiable scan of sequences on checked inputs.
        scan_picture: the same of pictures read where they lie; None where it has none.
    """

    name: str
    available: Callable[[], Verdict]
    supports: Callable[[ScanCall], Verdict]
    scan: ScanFunction
    scan_picture: ScanFunction | None = None


def decline(call: ScanCall, device: str, dtypes: frozenset[torch.dtype]) -> str | None:
    """Why a kernel for these tensors can't run the call, or None: what all kernels have in common.

    Args:
        call: the facts of the call.
        device: "cpu" or "cuda".
        dtypes: what u, delta, B, C and z may be.
    """
    if call.device.type != device:
        return f"the tensors are on {call.device}, not on a {device} device"
    if other := call.dtypes - dtypes:
        takes, given = (", ".join(sorted(_name(t) for t in some)) for some in (dtypes, other))
        return f"takes {takes}, not {given}"
    return no_tangents(call)


def no_tangents(call: ScanCall) -> str | None:
    """Why a scan with its own backward pass can't run the call, or None."""
    return "gives no forward-mode derivative" if call.forward_mode else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def compute_dtype(u: Tensor) -> torch.dtype:
    """Type of the state and of the arithmetic: float64 if u is, else float32."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def ceil_div(a: int, b: int) -> int:
    """A / b, rounded up."""
    return (a + b - 1) // b


def to_line(t: Tensor) -> Tensor:
    """A picture (B, D, H, W) as (B, D, H * W), a view if its rows follow each other in memory."""
    return t.flatten(2) if t.ndim == 4 else t


def from_line(t: Tensor, like: Tensor) -> Tensor:
    """The other way round, where `like` is a picture."""
    return torch.unflatten(t, 2, like.shape[2:]) if like.ndim == 4 else t


def result_like(u: Tensor) -> Tensor:
    """Memory for out or du: dense, of u's shape and type, a picture's axes in u's own order."""
    if u.ndim == 3:
        return torch.empty(u.shape, dtype=u.dtype, device=u.device)
    return from_line(torch.empty_like(to_line(u)), u)
