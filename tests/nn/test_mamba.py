from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.nn import MambaBlock, MambaState

DIM = 8
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def make(dtype: torch.dtype = torch.float64, **options) -> MambaBlock:
    torch.manual_seed(0)
    block = MambaBlock(DIM, **({"state": 4} | options))
    with torch.no_grad():
        block.conv1d.bias.normal_()
        block.D.normal_()
    return block.to(dtype)


def sequences(length: int = 19, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, DIM, generator=generator, dtype=dtype)


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    assert a.shape == b.shape
    assert (a - b).square().mean().sqrt() <= tolerance * b.square().mean().sqrt()


def by_the_paper(weights: dict[str, Tensor], x: Tensor, width: int) -> Tensor:
    """One sequence (L, C) by the paper's equations, one number after another where it matters."""
    inner, states = weights["A_log"].shape
    rank = weights["dt_proj.weight"].shape[1]

    def silu(v: Tensor) -> Tensor:
        return v / (1 + torch.exp(-v))

    hidden, rows, outputs = torch.zeros(inner, states, dtype=x.dtype), [], []
    for row in x:
        both = weights["in_proj.weight"] @ row
        rows.append(both[:inner])
        convolved = weights["conv1d.bias"].clone()
        for back in range(min(width, len(rows))):
            convolved += weights["conv1d.weight"][:, 0, width - 1 - back] * rows[-1 - back]
        u = silu(convolved)
        projected = weights["x_proj.weight"] @ u
        code, B, C = projected[:rank], projected[rank : rank + states], projected[rank + states :]
        delta = torch.log1p(torch.exp(weights["dt_proj.weight"] @ code + weights["dt_proj.bias"]))
        decay = torch.exp(-delta[:, None] * torch.exp(weights["A_log"]))
        hidden = decay * hidden + (delta * u)[:, None] * B
        y = hidden @ C + weights["D"] * u
        outputs.append(weights["out_proj.weight"] @ (y * silu(both[inner:])))
    return torch.stack(outputs)


@pytest.mark.parametrize("options", [{}, {"width": 1, "expand": 1}, {"width": 3, "rank": 5}])
def test_is_the_papers_block(options):
    block, x = make(**options), sequences()
    expected = [by_the_paper(block.state_dict(), row, block.width) for row in x]
    assert_same(block(x), torch.stack(expected))


def test_weights_are_named_and_shaped_as_mamba_ssms():
    shapes = {name: tuple(value.shape) for name, value in MambaBlock(24).state_dict().items()}
    assert shapes == {
        "A_log": (48, 16), "D": (48,), "in_proj.weight": (96, 24), "conv1d.weight": (48, 1, 4),
        "conv1d.bias": (48,), "x_proj.weight": (34, 48), "dt_proj.weight": (48, 2),
        "dt_proj.bias": (48,), "out_proj.weight": (24, 48),
    }  # fmt: skip


def test_starts_as_mamba_does():
    block = MambaBlock(64)
    assert torch.allclose(block.A_log.exp(), torch.arange(1.0, 17).expand(128, 16))
    steps = torch.nn.functional.softplus(block.dt_proj.bias)
    assert steps.min() >= 0.001 * 0.999
    assert steps.max() <= 0.1 * 1.001
    assert steps.max() / steps.min() > 10
    bound = block.rank**-0.5
    assert bound * 0.9 < block.dt_proj.weight.abs().max() <= bound


def test_a_step_sees_itself_and_the_past_only():
    block, x = make(), sequences()
    other = x.clone()
    other[:, 7] += 1
    changed = (block(x) != block(other)).any(-1)
    assert not changed[:, :7].any()
    assert changed[:, 7:].all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lengths", [[1, 18], [5, 2, 1, 11], [300, 301]])
def test_pieces_are_the_whole(lengths: list[int], dtype: torch.dtype):
    block, x = make(dtype), sequences(sum(lengths), dtype=dtype)
    state, pieces = None, []
    for piece in x.split(lengths, dim=1):
        out, state = block.extend(piece, state)
        pieces.append(out)
    whole, last = block.extend(x)
    assert_same(torch.cat(pieces, dim=1), whole, TOLERANCE[dtype])
    assert_same(state.hidden, last.hidden, TOLERANCE[dtype])
    assert_same(state.recent, last.recent, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_steps_are_the_whole(width: int, dtype: torch.dtype):
    block, x = make(dtype, width=width), sequences(dtype=dtype)
    state, outputs = block.start(len(x)), []
    for row in x.unbind(1):
        out, state = block.step(row, state)
        outputs.append(out)
    whole, last = block.extend(x)
    assert_same(torch.stack(outputs, dim=1), whole, TOLERANCE[dtype])
    assert_same(state.hidden, last.hidden, TOLERANCE[dtype])
    assert [value.shape for value in state] == [value.shape for value in block.start(len(x))]


def test_steps_go_on_where_a_piece_ended():
    block, x = make(), sequences()
    _, state = block.extend(x[:, :-1])
    kept = [value.clone() for value in state]
    out, _ = block.step(x[:, -1], state)
    assert_same(out, block(x)[:, -1])
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_gradients_cross_the_pieces_and_reach_everything():
    block, x = make(), sequences().requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    leaves = [x, *block.parameters()]
    whole = torch.autograd.grad((block(x) * weight).sum(), leaves)
    first, state = block.extend(x[:, :8])
    second, _ = block.extend(x[:, 8:], state)
    pieces = torch.autograd.grad((torch.cat([first, second], dim=1) * weight).sum(), leaves)
    for a, b in zip(pieces, whole, strict=True):
        assert b.abs().max() > 0
        assert_same(a, b)


def test_under_autocast_the_state_stays_exact():
    block, x = make(torch.float32), sequences(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state = block.extend(x[:, :9])
        more, state = block.extend(x[:, 9:], state)
        assert state.hidden.dtype == torch.float32
        whole = block(x)
    assert_same(torch.cat([out, more], dim=1).float(), whole.float(), 1e-2)
    assert_same(whole.float(), block(x), 2e-2)


@pytest.mark.parametrize("shape", [(2, DIM), (2, 0, DIM), (2, 5, DIM + 1)])
def test_what_is_no_sequence_is_refused(shape):
    with pytest.raises(InputError, match=rf"needs \(B, L, {DIM}\), L > 0, not"):
        make()(torch.zeros(shape))


def test_a_state_of_other_sequences_is_refused():
    block, x = make(), sequences()
    with pytest.raises(InputError, match="the state has 3 sequences and x has 2"):
        block.extend(x, block.start(3))
    with pytest.raises(InputError, match="the state has 3 sequences and x has 2"):
        block.step(x[:, 0], block.start(3))
    with pytest.raises(InputError, match=rf"step needs \(B, {DIM}\), not"):
        block.step(x, block.start(2))


def test_state_does_not_grow():
    block = make()
    _, short = block.extend(sequences(3))
    _, long = block.extend(sequences(400))
    assert isinstance(long, MambaState)
    assert [value.shape for value in short] == [value.shape for value in long]
    assert math.prod(long.hidden.shape) == 2 * 2 * DIM * 4
