"""Launches of the kernels, and the memory that they share.

A scan is three launches: `chunk_ends` (final states from zero), `carry_states` (each chunk's
initial state), `scan_chunks` (the output). The backward pass runs them in reverse time, with
`differentiate_chunks` in place of `scan_chunks`. Every chunk of every channel block is a program of
its own, so a single picture fills a GPU. A picture's directions are scanned in pairs, rows first;
columns are added to the rows' sum. `differentiate_chunks` takes one direction at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...interface import Gradients, Results, ScanInputs, ceil_div, from_line, reach, to_line
from . import CHUNK, MOST_REACH, kernels

Launch = Callable[[Any, tuple[int, int, int], dict[str, Any], int], None]
"""Launches a kernel: kernel, grid, arguments by name, warps per program."""


@dataclass(frozen=True)
class Tiles:
    """Sizes of the blocks, powers of two.

    Attributes:
        channels: Channels per program. Doubling it halves the partial sums over channels (dB, dC).
        steps: Steps per chunk; a state is saved for each chunk.
        chunks: Chunks that `carry_states` processes at once.
        warps: Warps per program.
    """

    channels: int = 16
    steps: int = CHUNK
    chunks: int = 32
    warps: int = 8


TILES = Tiles()

REGISTERS = 128
"""Limit on registers per thread: a multiprocessor then holds two programs of 8 warps."""


def run(kernel: Any, grid: tuple[int, int, int], arguments: dict[str, Any], warps: int) -> None:
    """Launch the kernel, compiled for these arguments at their first use."""
    kernel[grid](**arguments, num_warps=warps, maxnreg=REGISTERS)


class _Scan:
    """One call of the scan: its sizes and its launches."""

    def __init__(self, inputs: ScanInputs, tiles: Tiles, launch: Launch) -> None:
        picture = inputs.picture
        if picture and (inputs.z is not None or inputs.initial_state is not None):
            raise ValueError("a picture's scan takes neither a gate nor an initial state")
        self.inputs = inputs._replace(
            u=to_line(inputs.u),
            A=inputs.A.contiguous(),
            D=None if inputs.D is None else inputs.D.contiguous(),
            delta_bias=None if inputs.delta_bias is None else inputs.delta_bias.contiguous(),
        )
        self.tiles, self.launch = tiles, launch
        self.height, self.width = picture or (0, 0)
        self.batch, self.channels, self.steps = inputs.delta.shape
        self.groups, self.states = inputs.B.shape[1:3]
        self.rows = self.channels // self.groups
        self.blocks = ceil_div(self.rows, tiles.channels)
        self.chunks = ceil_div(self.steps, tiles.steps)
        self.ways = [kernels.ROWS, kernels.COLUMNS] if picture else [kernels.SEQUENCE]

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.inputs.u.device)

    def result(self) -> Tensor:
        """Allocate out or du, laid out as by `interface.result_like`."""
        u = self.inputs.u
        if self.height:
            return torch.empty_like(u)
        return torch.empty_like(u, memory_format=torch.contiguous_format)

    def states_at_chunks(self) -> Tensor:
        return self.empty(self.batch, self.chunks, self.states, self.channels)

    def _run(self, kernel: Any, way: Any, arguments: dict[str, Any]) -> None:
        """Launch a kernel with one program per channel block and chunk."""
        groups = self.groups if way == kernels.SEQUENCE else 1
        sizes = {
            name: getattr(self, name)
            for name in ("channels", "rows", "steps", "states", "height", "width")
        }
        blocks = {
            "SOFTPLUS": self.inputs.delta_softplus,
            "LEAST": self.inputs.least_delta,
            "BD": self.tiles.channels,
            "BT": self.tiles.steps,
        }
        grid = (self.blocks * self.chunks, groups, self.batch)
        self.launch(kernel, grid, arguments | sizes | {"WAY": way} | blocks, self.tiles.warps)

    def arrivals(self, dout: Tensor | None, first: Tensor | None, last: Tensor) -> Tensor:
        """Compute each chunk's initial state, or its final state's gradient: (B, chunks, N, D).

        Args:
            dout: Gradient of the output, in the backward pass.
            first: Initial state, or in the backward pass gradient of the final state, (B, D, N);
                zeros if missing.
            last: Filled with the final state, or with the initial state's gradient, (B, D, N).
        """
        inputs = self.inputs
        ends, sums = self.states_at_chunks(), self.empty(self.batch, self.chunks, self.channels)
        back = dout is not None
        values = inputs.u if dout is None else dout
        gate, weights = (inputs.z, inputs.C) if back else (None, inputs.B)
        tensors = {
            "values": values, "gate": gate, "weights": weights, "delta": inputs.delta,
            "bias": inputs.delta_bias, "A": inputs.A, "ends": ends, "sums": sums,
        }  # fmt: skip
        for way in self.ways:
            self._run(
                kernels.chunk_ends,
                way,
                tensors
                | _strides("values", values)
                | _strides("gate", gate)
                | _strides("weights", weights)
                | _strides("delta", inputs.delta)
                | {"BACKWARD": back},
            )
        arriving = self.states_at_chunks()
        size = self.tiles.channels
        arguments = {
            "ends": ends, "sums": sums, "A": inputs.A, "first": first, "arriving": arriving,
            "last": last, "channels": self.channels, "rows": self.rows, "states": self.states,
            "chunks": self.chunks, "BACKWARD": back, "ALTERNATE": self.height > 0,
            "BD": size, "BC": self.tiles.chunks,
        }  # fmt: skip
        arguments |= _strides("first", first, _STATE) | _strides("last", last, _STATE)
        grid = (self.groups * self.blocks, self.states, self.batch)
        self.launch(kernels.carry_states, grid, arguments, self.tiles.warps)
        return arriving

    def common(self) -> dict[str, Any]:
        """Return the arguments that `scan_chunks` and `differentiate_chunks` share."""
        inputs = self.inputs
        tensors = {name: getattr(inputs, name) for name in ("u", "delta", "A", "B", "C", "D", "z")}
        strides: dict[str, int] = {}
        for name in ("u", "delta", "z", "B", "C"):
            strides |= _strides(name, tensors[name])
        return tensors | {"bias": inputs.delta_bias} | strides

    def out(self, starts: Tensor, out: Tensor) -> None:
        """Fill `out` (B, D, L) from the chunks' initial states."""
        for way, to, add in zip(self.ways, *_sums(out, len(self.ways)), strict=True):
            arguments = {"starts": starts, "add": add, "out": to} | _strides("out", to)
            self._run(kernels.scan_chunks, way, self.common() | arguments)

    def differentiate(self, dout: Tensor, saved: Tensor, arriving: Tensor, du: Tensor) -> Gradients:
        """Fill `du`, and return all gradients except the initial state's."""
        inputs = self.inputs
        ddelta, dz = (
            None if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device)
            for t in (inputs.delta, inputs.z)
        )
        dA = self.states_at_chunks()
        dD, dbias = (self.empty(self.batch, self.chunks, self.channels) for _ in range(2))
        dB, dC = (self.empty(self.blocks, *inputs.B.shape) for _ in range(2))
        arguments = {
            "starts": saved.contiguous(), "arriving": arriving, "dout": dout, "ddelta": ddelta,
            "dA": dA, "dB": dB, "dC": dC, "dD": dD, "dz": dz, "dbias": dbias,
            "batches": self.batch, "volume": self.channels * self.steps,
        }  # fmt: skip
        arguments |= self.common() | _strides("dout", dout)
        turns = (False, True) if self.height else (False,)
        passes = [(way, turned) for way in self.ways for turned in turns]
        for (way, turned), to, add in zip(passes, *_sums(du, len(passes)), strict=True):
            own = {"du": to, "add": add, "TURNED": turned} | _strides("du", to)
            self._run(kernels.differentiate_chunks, way, arguments | own)
        # sums over chunks are in float64, or they would lose digits at a million steps
        dA, dD, dbias = (t.sum((0, 1), dtype=torch.float64) for t in (dA, dD, dbias))
        dB, dC = (t[0] if len(t) == 1 else t.sum(0) for t in (dB, dC))
        grads = {"u": du, "delta": ddelta, "A": dA.T.contiguous(), "B": dB, "C": dC}
        return grads | {"D": dD, "z": dz, "delta_bias": dbias}


def _sums(result: Tensor, launches: int) -> tuple[list[Tensor], list[Tensor | None]]:
    """Yield where each of several launches writes, and what it adds; sums are in float32."""
    half = result
    if launches > 1 and result.dtype != torch.float32:
        half = torch.empty_like(result, dtype=torch.float32)
    return [half] * (launches - 1) + [result], [None] + [half] * (launches - 1)


_TIME = ("batch", "channel", "step")
_ROWS = ("batch", "group", "state", "step")
_STATE = ("batch", "channel", "state")


def _strides(name: str, tensor: Tensor | None, axes: tuple[str, ...] = ()) -> dict[str, int]:
    """Return a kernel's stride arguments `name_axis`; zeros for a missing tensor."""
    axes = axes or (_TIME if tensor is None or tensor.ndim == 3 else _ROWS)
    strides = (0,) * len(axes) if tensor is None else tensor.stride()
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, strides, strict=True)}


def _near(gradient: Tensor) -> Tensor:
    """Copy a gradient of too large a reach: `supports` did not see it, and it may be any view."""
    return gradient.contiguous() if reach(gradient, 1) >= MOST_REACH else gradient


def _device(t: Tensor) -> AbstractContextManager[None]:
    """Return a context with the tensor's device current: Triton launches on the current one."""
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()


def forward(
    inputs: ScanInputs, save_states: bool, tiles: Tiles = TILES, launch: Launch = run
) -> Results:
    """Implement `Kernel.forward` for any strides; states are saved every `tiles.steps` steps."""
    u = inputs.u
    with _device(u):
        scan = _Scan(inputs, tiles, launch)
        out = scan.result()
        last = scan.empty(len(u), *inputs.A.shape)
        starts = scan.arrivals(None, inputs.initial_state, last)
        scan.out(starts, out)
    return from_line(out, u), last, starts if save_states else starts[:, :0].clone()


def backward(
    dout: Tensor,
    dlast: Tensor | None,
    saved: Tensor,
    inputs: ScanInputs,
    tiles: Tiles = TILES,
    launch: Launch = run,
) -> Gradients:
    """Implement `Kernel.backward`, from the states that `forward` saved with the same tiles."""
    u = inputs.u
    with _device(u):
        scan = _Scan(inputs, tiles, launch)
        dfirst = scan.empty(len(u), *inputs.A.shape)
        dout = _near(to_line(dout))
        arriving = scan.arrivals(dout, None if dlast is None else _near(dlast), dfirst)
        du = scan.result()
        grads = scan.differentiate(dout, saved, arriving, du)
    return grads | {"u": from_line(du, u), "initial_state": dfirst}
