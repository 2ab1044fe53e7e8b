from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn import AttentionMixer, ConvMixer, MambaMixer, make_mixer
from clipmamba.nn.mixers import _own_direction
from clipmamba.ops import cross_scan, scan_backend, selective_scan

DIM, CODE = 8, 6


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return make_mixer(kind, DIM, CODE, 4)


def inputs(batch: int = 1, height: int = 9, width: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, height, width, DIM, generator=generator)
    return x, torch.randn(batch, CODE, generator=generator)


def places_that_see(mixer: nn.Module, row: int, column: int) -> Tensor:
    """Which places (H, W) change when one pixel does."""
    x, code = inputs()
    other = x.clone()
    other[:, row, column] += 5
    with torch.no_grad():
        return (mixer(x, code) != mixer(other, code)).any(-1)[0]


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_mamba_and_attention_see_the_whole_picture(corner: tuple[int, int]):
    assert places_that_see(make("mamba"), *corner).all()
    assert places_that_see(make("attention"), *corner).all()


@pytest.mark.parametrize("dim", [*range(1, 100), 128, 192, 200])
def test_attention_takes_any_width(dim: int):
    mixer = AttentionMixer(dim, CODE)
    x = torch.randn(1, 2, 3, dim)
    assert mixer(x, torch.zeros(1, CODE)).shape == x.shape
    assert 1 <= mixer.heads <= max(1, dim // 32)
    if dim % 32 == 0:
        assert mixer.heads == dim // 32


def test_convolution_sees_seven_by_seven():
    seen = places_that_see(make("conv"), 4, 5)
    expected = torch.zeros(9, 11, dtype=torch.bool)
    expected[1:8, 2:9] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("kind", ["mamba", "attention", "conv"])
def test_a_batch_is_its_pictures(kind: str):
    mixer = make(kind)
    x, code = inputs(batch=3)
    together = mixer(x, code)
    assert together.shape == x.shape
    for index in range(3):
        alone = mixer(x[index : index + 1], code[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["mamba", "attention", "conv"])
def test_every_parameter_learns(kind: str):
    mixer = make(kind)
    x, code = inputs()
    (
        mixer(x, code) * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    ).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_style_bends_the_scan():
    mixer = make("mamba")
    x, code = inputs()
    bent = mixer(x, code)
    assert (bent - mixer(x, -code)).abs().max() > 1e-4
    nn.init.zeros_(mixer.bend.weight)
    straight = mixer(x, code)
    assert (bent - straight).abs().max() > 1e-4
    assert torch.equal(straight, mixer(x, -code))  # the bend is the style's only way in


@pytest.mark.parametrize("least_step", [0.05, 0.0])
def test_what_is_far_away_fades(least_step: float):
    torch.manual_seed(0)
    mixer = MambaMixer(DIM, CODE, 4, least_step=least_step)
    mixer.delta_bias.data.fill_(-9)  # hardly anything fades of itself
    x, code = inputs(height=40, width=40)
    other = x.clone()
    other[:, 20, :3] += 5
    with torch.no_grad():
        change = (mixer(x, code) - mixer(other, code))[0].norm(dim=-1)
    far = change[30:, 10:].mean() / change[20, 4:8].mean()  # hundreds of places later
    assert (far < 1e-3) == (least_step > 0)


def test_each_direction_is_projected_in_its_own_order():
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert torch.equal(_own_direction(x[:, None].expand(-1, 4, -1, -1, -1)), cross_scan(x))
    # and direction k takes map k
    maps = torch.stack([x, x + 1000, x + 2000, x + 3000], dim=1)
    lowest = _own_direction(maps).amin(dim=(0, 2, 3))
    assert lowest.tolist() == [0, 1000, 2000, 3000]


def reordered(mixer: MambaMixer, order: list[int], kernel) -> MambaMixer:
    """The mixer that does with `order`'s directions what `mixer` does with 0, 1, 2, 3."""
    other = copy.deepcopy(mixer)
    with torch.no_grad():
        for parameter in (
            other.x_proj.weight, other.delta_weight, other.delta_bias, other.A_log, other.D,
            other.bend.weight, other.bend.bias,
        ):  # fmt: skip
            parameter.copy_(parameter.unflatten(0, (4, -1))[order].reshape(parameter.shape))
        other.local.weight.copy_(kernel(mixer.local.weight))
    return other


@pytest.mark.parametrize(
    ("order", "turn"),
    [
        ([2, 3, 0, 1], lambda t, h, w: t.transpose(h, w)),
        ([1, 0, 3, 2], lambda t, h, w: t.flip(h, w)),
    ],
    ids=["transposed", "half-turn"],
)
def test_directions_are_what_they_are_called(order, turn):
    mixer = make("mamba")
    x, code = inputs()
    other = reordered(mixer, order, lambda kernel: turn(kernel, 2, 3))
    turned = turn(other(turn(x, 1, 2), code), 1, 2)
    torch.testing.assert_close(turned, mixer(x, code), rtol=1e-4, atol=1e-5)
    wrong = reordered(mixer, [0, 1, 2, 3], lambda kernel: turn(kernel, 2, 3))
    assert (turn(wrong(turn(x, 1, 2), code), 1, 2) - mixer(x, code)).abs().max() > 1e-3


def test_mamba_starts_as_mamba_does():
    mixer = make("mamba")
    assert torch.allclose(mixer.A_log.exp(), torch.arange(1.0, 5).expand(4 * DIM, 4))
    steps = F.softplus(mixer.delta_bias)
    assert steps.min() >= 0.001 * 0.999
    assert steps.max() <= 0.1 * 1.001
    assert steps.max() / steps.min() > 3


def test_names():
    kinds = {"mamba": MambaMixer, "attention": AttentionMixer, "conv": ConvMixer}
    for name, kind in kinds.items():
        assert type(make(name)) is kind
    with pytest.raises(ValueError, match="'mamba', 'attention' or 'conv', not 'lstm'"):
        make("lstm")


def by_lines(mixer: MambaMixer, x: Tensor, code: Tensor) -> Tensor:
    """The mixer with a scan for each row and each column, forwards and backwards, in turn."""
    inner, gate = mixer.in_proj(x).chunk(2, dim=-1)
    inner = F.silu(mixer.local(inner.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # (B, H, W, C)
    bend = mixer.bend(code).view(len(x), 4, 1, 1, -1)
    projected = mixer.x_proj(inner).unflatten(-1, (4, -1)).permute(0, 3, 1, 2, 4)
    delta, B, C = projected.split([mixer.rank, mixer.state, mixer.state], dim=-1)
    delta, C = delta + bend[..., : mixer.rank], C * (1 + bend[..., mixer.rank :])
    total = torch.zeros_like(inner)
    for way in range(4):
        turn = (lambda t: t.transpose(1, 2)) if way >= 2 else (lambda t: t)
        back = (lambda t: t.flip(2)) if way % 2 else (lambda t: t)
        seen = [back(turn(t)) for t in (inner, delta[:, way], B[:, way], C[:, way])]
        u, step, b, c = (t.flatten(0, 1).transpose(1, 2) for t in seen)
        channels = slice(way * mixer.dim, (way + 1) * mixer.dim)
        y = selective_scan(
            u,
            mixer.delta_weight[way] @ step,
            -mixer.A_log[channels].exp(),
            b[:, None],
            c[:, None],
            mixer.D[channels],
            None,
            mixer.delta_bias[channels],
            delta_softplus=True,
            least_delta=mixer.least_step,
        )
        y = y.transpose(1, 2).unflatten(0, seen[0].shape[:2])
        total = total + turn(back(y))
    return mixer.out_proj(mixer.norm(total) * F.silu(gate))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (13, 21)])
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_scan_by_line_sees_its_own_row_and_column_only(size: tuple[int, int], backend: str):
    torch.manual_seed(0)
    mixer = MambaMixer(12, 8, state=4, least_step=0.1, by_line=True)
    x = torch.randn(2, *size, 12, requires_grad=True)
    code = torch.randn(2, 8, requires_grad=True)
    given = [x, code, *mixer.parameters()]
    with scan_backend(backend):
        found = mixer(x, code)
    expected = by_lines(mixer, x, code)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    seen = torch.randn(found.shape)
    for own, wanted in zip(
        torch.autograd.grad((found * seen).sum(), given),
        torch.autograd.grad((expected * seen).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (13, 21)])
@pytest.mark.parametrize("bend", [True, False])
def test_each_line_at_once_is_the_scan_by_line(size: tuple[int, int], bend: bool):
    torch.manual_seed(0)
    mixer = MambaMixer(12, 8, state=4, bend=bend, least_step=0.1, by_line=True)
    x, code = torch.randn(2, *size, 12), torch.randn(2, 8)
    with torch.no_grad():
        expected = mixer(x, code)
        mixer.each_line = True
        torch.testing.assert_close(mixer(x, code), expected, rtol=1e-4, atol=1e-5)
