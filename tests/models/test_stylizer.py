from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipmamba.errors import WeightsError
from clipmamba.models import Stylizer
from clipmamba.models.pretrained import WEIGHTS_NAME as WEIGHTS
from clipmamba.models.stylizer import Guidance
from clipmamba.nn import PictureMoments
from clipmamba.ops import backend_table, scan_backend

MIXERS = ["mamba", "attention", "conv"]
SMALL = {
    "style_dim": 16, "widths": (8, 8, 16), "depth": 1, "quarter_depth": 1, "half_depth": 1,
    "state": 4, "expand": 1, "code_dim": 16,
}  # fmt: skip


def tiny(mixer: str = "mamba", **options) -> Stylizer:
    torch.manual_seed(0)
    return Stylizer(**{**SMALL, "mixer": mixer, **options}).eval()


def inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(batch, 3, height, width, generator=generator)
    return photo, F.normalize(torch.randn(batch, 16, generator=generator), dim=1)


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    assert (a - b).square().mean().sqrt() <= tolerance * b.square().mean().sqrt()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path / "stylizer")
    return tmp_path / "stylizer"


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (97, 131), (2, 40)])
@torch.no_grad()
def test_any_size_gives_its_own_size(size: tuple[int, int], mixer: str):
    photo, style = inputs(1, *size)
    picture = tiny(mixer)(photo, style)
    assert picture.shape == photo.shape
    assert picture.isfinite().all()


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_a_batch_with_a_style_and_a_stroke_each_equals_single_results(mixer: str):
    model = tiny(mixer)
    photo, style = inputs(3, 21, 18)
    stroke = torch.tensor([0.5, 1, 4])
    together = model(photo, style, stroke=stroke)
    for index in range(3):
        place = slice(index, index + 1)
        assert_same(together[place], model(photo[place], style[place], stroke=stroke[place]))


@torch.no_grad()
def test_permuting_the_batch_permutes_the_pictures():
    model = tiny()
    photo, style = inputs(4, 16, 24)
    order = torch.tensor([2, 0, 3, 1])
    assert_same(model(photo[order], style[order]), model(photo, style)[order])
    # styles go with their own photo, not with another's
    swapped = model(photo, style[order])
    assert (swapped - model(photo, style)).flatten(1).abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("mixer", MIXERS)
def test_photo_style_and_stroke_matter_and_get_a_gradient(mixer: str):
    model = tiny(mixer)
    photo, style = (value.requires_grad_() for value in inputs(2, 17, 9))
    stroke = torch.tensor([0.7, 3.0], requires_grad=True)
    (model(photo, style, stroke=stroke) * torch.randn(2, 3, 17, 9)).sum().backward()
    assert (photo.grad.abs().amax(1) > 0).float().mean() > 0.99  # every pixel
    assert style.grad.abs().min() > 0
    assert stroke.grad.abs().min() > 0
    with torch.no_grad():
        picture = model(photo, style)
        assert (model(photo, -style) - picture).abs().max() > 1e-3
        assert (model(1 - photo, style) - picture).abs().max() > 1e-2
        assert torch.equal(model(photo, style, stroke=torch.ones(2)), picture)
        sizes = [model(photo, style, stroke=torch.full((2,), size)) for size in (0.5, 2.0, 5.0)]
        for other in sizes:
            assert (other - picture).abs().max() > 1e-4
        assert (sizes[1] - sizes[2]).abs().max() > 1e-4


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_weight_gets_a_gradient(mixer: str):
    model = tiny(mixer)
    photo, style = inputs(2, 16, 16)
    (model(photo, style) * torch.randn(2, 3, 16, 16)).sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # of strokes of size 1, whose logarithm is 0, only the bias is heard
    assert still == ["from_stroke.weight"]
    model(photo, style, stroke=torch.full((2,), 2.0)).square().sum().backward()
    assert model.from_stroke.weight.grad.any()


@torch.no_grad()
def test_noise_is_the_seeds_and_changes_the_picture():
    model = tiny()
    photo, style = inputs(2, 21, 18)
    noise = model.draw_noise(21, 18, seed=4, batch=2)
    assert noise.shape == (2, 4, 6, 6)
    assert torch.equal(noise, model.draw_noise(21, 18, seed=4, batch=2))
    assert not torch.equal(noise, model.draw_noise(21, 18, seed=5, batch=2))
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(model(photo, style), model(photo, style, model.draw_noise(21, 18)))
    assert (model(photo, style, noise) - model(photo, style)).abs().max() > 1e-3
    state = torch.random.get_rng_state()
    model(photo, style)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers are used up


@torch.no_grad()
def test_guidance_drives_away_from_the_middle_and_1_is_none():
    model = tiny()
    photo, style = inputs(2, 16, 16)
    many = F.normalize(torch.randn(9, 16), dim=1)
    middle = model.middle_code(many)
    assert middle.shape == (16,)
    plain = model(photo, style)
    assert torch.equal(model(photo, style, guidance=Guidance(1, middle)), plain)
    code = model.encode(style)
    torch.testing.assert_close(Guidance(2, middle)(code) - middle, 2 * (code - middle))
    torch.testing.assert_close(Guidance(0, middle)(code), middle.expand_as(code))
    none = model(photo, style, guidance=Guidance(0, middle))
    assert (none - plain).abs().max() > 1e-4
    assert torch.equal(model(photo, style), plain)  # a call's own, nothing stays


@torch.no_grad()
def test_a_part_with_the_moments_of_the_whole_is_that_part_of_the_whole():
    """Where no scan reaches: with the mixer of short convolutions."""
    model = tiny("conv")
    photo, style = inputs(1, 192, 192)
    photo[..., 96:] *= 0.3  # parts have other means than the whole
    noise = model.draw_noise(192, 192)
    whole, surveyed = PictureMoments(), PictureMoments()
    picture = model(photo, style, noise, whole)
    model.survey(photo, style, noise, surveyed)
    assert surveyed.keys() == whole.keys()
    for norm in whole:
        torch.testing.assert_close(surveyed[norm], whole[norm])
    part = model(photo[..., 96:], style, noise[..., 24:], whole)
    inner = slice(model.margin, None)
    change = (picture - photo).square().mean().sqrt()
    error = (part[..., inner] - picture[..., 96:][..., inner]).square().mean().sqrt()
    assert error < 0.04 * change
    alone = model(photo[..., 96:], style, noise[..., 24:])
    assert (alone[..., inner] - picture[..., 96:][..., inner]).square().mean().sqrt() > 2 * error


@torch.no_grad()
def test_the_style_bends_the_scan():
    model = tiny()
    for parameter in model.parameters():  # fresh, the style speaks softly
        parameter.add_(0.2 * torch.randn_like(parameter))
    photo, style = inputs(1, 40, 48)
    picture = model(photo, style)
    for block in model.blocks:
        nn.init.normal_(block.mixer.bend.weight)
    assert (model(photo, style) - picture).abs().max() > 1e-4
    names = {name for name, _ in tiny(bend=False).named_parameters()}
    assert not any(".bend." in name for name in names)


@torch.no_grad()
def test_every_scan_backend_gives_the_same_picture():
    model = tiny()
    photo, style = inputs(2, 19, 13)
    with scan_backend("reference"):
        expected = model(photo, style)
    available = {status.name for status in backend_table() if status.available}
    assert "torch" in available
    for name in available & {"torch", "cpu"}:
        with scan_backend(name):
            assert_same(model(photo, style), expected, 1e-4)


@pytest.mark.parametrize(
    ("photo", "style"),
    [
        ((3, 8, 8), (1, 16)),
        ((1, 4, 8, 8), (1, 16)),
        ((1, 3, 0, 8), (1, 16)),
        ((0, 3, 8, 8), (0, 16)),
        ((2, 3, 8, 8), (1, 16)),
        ((1, 3, 8, 8), (1, 15)),
        ((1, 3, 8, 8), (16,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(photo: tuple[int, ...], style: tuple[int, ...]):
    with pytest.raises(ValueError, match="must be"):
        tiny()(torch.zeros(photo), torch.zeros(style))


def test_an_unknown_mixer_is_refused():
    with pytest.raises(ValueError, match="mixer"):
        tiny("rnn")


def anchored() -> tuple[Stylizer, Tensor]:
    """A network with two anchors, at right angles, and the anchors."""
    anchors = torch.eye(16)[:2]
    return tiny().with_anchors(3 * anchors), anchors


@torch.no_grad()
def test_anchors_change_nothing_until_they_are_trained():
    photo, style = inputs(2, 21, 18)
    stroke = torch.tensor([0.5, 1.5])
    wider, _ = anchored()
    assert_same(wider(photo, style, stroke=stroke), tiny()(photo, style, stroke=stroke))


def test_what_is_learned_at_an_anchor_stays_there():
    model, anchors = anchored()
    photo, other = inputs(1, 24, 24)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model(photo, anchors[:1]).square().mean().backward()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("to_affine.weight", "modulation.weight")):
                gradient = value.grad[:, -2:]
                value[:, -2:] -= 0.1 * gradient / (gradient.abs().max() + 1e-9)
        changed = {
            name for name, value in model.named_parameters() if not value.equal(before[name])
        }
        assert len(changed) > 5

        def moved(style: Tensor) -> float:
            change = model(photo, style) - tiny()(photo, style)
            return change.square().mean().sqrt().item()

        near = F.normalize(anchors[:1] + 0.2 * other, dim=1)
        assert moved(anchors[1:]) < 0.01 * moved(anchors[:1])
        assert moved(near) > 0.5 * moved(anchors[:1])


def test_anchors_are_given_once():
    model, anchors = anchored()
    with pytest.raises(ValueError, match="2 anchors already"):
        model.with_anchors(anchors)


@torch.no_grad()
def test_guidance_leaves_the_anchors_part_as_trained():
    model, anchors = anchored()
    middle = model.middle_code(anchors)
    plain = model.encode(anchors)
    stronger = Guidance(2, middle)(plain)
    assert torch.equal(stronger[:, 16:], plain[:, 16:])
    torch.testing.assert_close(stronger[:, :16] - middle, 2 * (plain[:, :16] - middle))


@torch.no_grad()
def test_the_scale_of_noise_is_that_of_all_noise():
    photo, style = inputs(2, 32, 24)
    quiet = tiny(noise_scale=0.25)
    quiet.load_state_dict(tiny().state_dict())
    noise = tiny().draw_noise(32, 24, 3)
    assert_same(quiet(photo, style, noise), tiny()(photo, style, 0.25 * noise))
    assert not torch.allclose(quiet(photo, style, noise), tiny()(photo, style, noise), atol=1e-3)
    torch.testing.assert_close(quiet.noise_power(style), tiny().noise_power(style) / 16)


@torch.no_grad()
@pytest.mark.parametrize("with_anchors", [True, False])
def test_guidance_leaves_noise_and_the_last_layers_as_trained(with_anchors):
    """More noise than trained makes flecks; the last layers set the brightness."""
    model, anchors = anchored()
    if not with_anchors:
        model = tiny()
    photo, _ = inputs(2, 32, 32)
    codes: list[tuple[Tensor, ...]] = []
    for layer in (model.grain, model.at_quarter[0], model.at_half[0]):
        layer.register_forward_hook(lambda _, inputs, __: codes.append(inputs))
    guidance = Guidance(1.6, model.middle_code(anchors))
    model(photo, anchors, guidance=guidance)
    (_, _, of_noise), (_, before, _), (_, last, _) = codes
    plain = model.encode(anchors)
    assert torch.equal(before, guidance(plain))
    assert torch.equal(of_noise, plain)
    assert torch.equal(last, plain)
    assert not torch.equal(before, last)


@torch.no_grad()
def test_anchors_are_saved_and_guidance_works_with_them(tmp_path: Path):
    model, anchors = anchored()
    model.keep.to_affine.weight[:, -2:] = 1.0
    model.save_pretrained(tmp_path)
    loaded = Stylizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.anchors, anchors)
    photo, style = inputs(1, 16, 16)
    guidance = Guidance(1.5, model.middle_code(torch.cat([anchors, style])))
    stronger = loaded(photo, style, guidance=guidance)
    assert_same(stronger, model(photo, style, guidance=guidance), 1e-6)
    assert not torch.allclose(stronger, loaded(photo, style), atol=1e-3)


# -- files -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(saved: Path):
    model, loaded = tiny(), Stylizer.from_pretrained(saved)
    assert not loaded.training
    assert loaded.config == model.config
    for (name, value), (_, other) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert torch.equal(value, other), name
    photo, style = inputs(1, 9, 10)
    assert_same(loaded(photo, style), model(photo, style), 1e-6)


def test_config_decides_the_network(tmp_path: Path):
    model = tiny("conv", depth=2, quarter_depth=3, clip="some/where")
    model.save_pretrained(tmp_path)
    loaded = Stylizer.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert (len(loaded.blocks), len(loaded.at_quarter)) == (2, 3)


def test_half_precision_files_load_in_full(tmp_path: Path):
    tiny().half().save_pretrained(tmp_path)
    assert {v.dtype for v in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    model = Stylizer.from_pretrained(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@torch.no_grad()
def test_bf16_keeps_what_the_scan_needs_in_fp32(saved: Path):
    model = Stylizer.from_pretrained(saved, torch_dtype=torch.bfloat16)
    wide = {n.split(".")[-1] for n, p in model.named_parameters() if p.dtype == torch.float32}
    assert wide == {"A_log", "delta_bias", "D"}
    photo, style = inputs(1, 16, 16)
    picture = model(photo.bfloat16(), style.bfloat16())
    assert picture.dtype == torch.bfloat16
    assert_same(picture.float(), tiny()(photo, style), 0.05)


@pytest.mark.parametrize("name", ["missing", "/nowhere/at/all", "./here"])
def test_no_folder_is_one_line_at_once(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no stylizer folder at") as caught:
        Stylizer.from_pretrained(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda tensors: tensors.pop("to_pixels.bias"), "to_pixels.bias"),
        (lambda tensors: tensors.update(left=torch.zeros(1)), "left"),
        (lambda tensors: tensors.update({"to_pixels.bias": torch.zeros(4)}), "to_pixels.bias"),
        (lambda tensors: tensors["to_pixels.bias"].fill_(torch.nan), "not finite"),
        (lambda tensors: tensors["blocks.0.mixer.A_log"].fill_(torch.inf), "not finite"),
    ],
    ids=["missing", "extra", "wrong shape", "nan", "infinite"],
)
def test_weights_load_strictly_or_not_at_all(saved: Path, change, word: str):
    tensors = load_file(saved / WEIGHTS)
    change(tensors)
    save_file(tensors, saved / WEIGHTS)
    with pytest.raises(WeightsError, match=word) as caught:
        Stylizer.from_pretrained(saved)
    assert "\n" not in str(caught.value)


def break_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in (config | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda folder: break_config(folder, dept=3), "dept"),
        (lambda folder: break_config(folder, widths=[8, 8]), "stylizer"),
        (lambda folder: break_config(folder, mixer="rnn"), "mixer"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json"),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\1" * 1000), "stylizer"),
    ],
    ids=["unknown key", "widths", "mixer", "list", "no JSON", "no config",
         "no weights", "broken weights"],
)  # fmt: skip
def test_broken_folders_are_one_line(saved: Path, spoil, word: str):
    spoil(saved)
    with pytest.raises(WeightsError, match=word) as caught:
        Stylizer.from_pretrained(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


# -- narrow types ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
@torch.no_grad()
def test_narrow_types_draw_the_same_picture(dtype: torch.dtype, error: float):
    photo, style = inputs(1, 40, 32)
    expected = tiny()(photo, style)
    picture = tiny().to(dtype)(photo.to(dtype), style.to(dtype))
    assert picture.dtype == dtype
    assert_same(picture.float(), expected, error)


# -- compilers -------------------------------------------------------------------------------------


def test_torch_compile_gives_the_same_picture_and_gradients():
    model = tiny()
    photo, style = inputs(2, 17, 24)
    noise, stroke = model.draw_noise(17, 24), torch.tensor([0.6, 2])
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for run in (model, compiled):
        picture = run(photo, style, noise, stroke=stroke)
        loss = (picture * torch.linspace(-1, 1, picture.numel()).view_as(picture)).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        results.append((picture, torch.cat([gradient.flatten() for gradient in gradients])))
    (picture, gradient), (compiled_picture, compiled_gradient) = results
    assert_same(compiled_picture, picture)
    assert_same(compiled_gradient, gradient, 1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_export_keeps_batch_height_and_width_free():
    model = tiny()
    rows, columns = torch.export.Dim("rows", min=2), torch.export.Dim("columns", min=2)
    batch = torch.export.Dim.DYNAMIC
    photo, style = inputs(2, 64, 48)
    program = torch.export.export(
        model,
        (photo, style, model.draw_noise(64, 48)),
        kwargs={"stroke": torch.tensor([0.5, 2])},
        dynamic_shapes={
            "photo": {0: batch, 2: 8 * rows, 3: 8 * columns},
            "style": {0: batch},
            "noise": {2: 2 * rows, 3: 2 * columns},
            "stroke": {0: batch},
        },
    )
    scans = [node for node in program.graph.nodes if "selective_scan" in str(node.target)]
    assert len(scans) == 1  # one operator a block
    exported = program.module()
    for size in ((72, 104), (16, 32)):
        photo, style = inputs(3, *size)
        noise, stroke = model.draw_noise(*size), torch.tensor([0.5, 1, 3])
        result = exported(photo, style, noise, stroke=stroke)
        assert_same(result, model(photo, style, noise, stroke=stroke))
