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
from clipmamba.ops import backend_table, scan_backend

WEIGHTS = "diffusion_pytorch_model.safetensors"
MIXERS = ["mamba", "attention", "conv"]


def tiny(mixer: str = "mamba", **options) -> Stylizer:
    torch.manual_seed(0)
    small = {
        "style_dim": 16, "widths": (8, 8, 16), "depth": 1, "quarter_depth": 1, "head_width": 8,
        "state": 4, "expand": 1, "code_dim": 16,
    }  # fmt: skip
    return Stylizer(mixer=mixer, **(small | options)).eval()


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
def test_a_batch_with_a_style_each_equals_single_results(mixer: str):
    model = tiny(mixer)
    photo, style = inputs(3, 21, 18)
    together = model(photo, style)
    for index in range(3):
        place = slice(index, index + 1)
        assert_same(together[place], model(photo[place], style[place]))


@torch.no_grad()
def test_permuting_the_batch_permutes_the_pictures():
    model = tiny()
    photo, style = inputs(4, 16, 24)
    order = torch.tensor([2, 0, 3, 1])
    assert_same(model(photo[order], style[order]), model(photo, style)[order])
    # styles go with their own photo, not with another's
    swapped = model(photo, style[order])
    assert (swapped - model(photo, style)).flatten(1).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("mixer", MIXERS)
def test_photo_and_style_both_matter_and_get_a_gradient(mixer: str):
    model = tiny(mixer)
    photo, style = (value.requires_grad_() for value in inputs(2, 17, 9))
    model(photo, style).square().sum().backward()
    assert (photo.grad.abs().amax(1) > 0).float().mean() > 0.99  # every pixel
    assert style.grad.abs().min() > 0
    with torch.no_grad():
        picture = model(photo, style)
        assert (model(photo, -style) - picture).abs().max() > 1e-3
        assert (model(1 - photo, style) - picture).abs().max() > 1e-2


def test_every_weight_gets_a_gradient():
    model = tiny()
    photo, style = inputs(2, 16, 16)
    (model(photo, style) * torch.randn(2, 3, 16, 16)).sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


@torch.no_grad()
def test_noise_is_the_seeds_and_changes_the_picture():
    model = tiny()
    photo, style = inputs(2, 21, 18)
    noise = model.draw_noise(21, 18, seed=4, batch=2)
    assert noise.shape == (2, 4, 12, 12)
    assert torch.equal(noise, model.draw_noise(21, 18, seed=4, batch=2))
    assert not torch.equal(noise, model.draw_noise(21, 18, seed=5, batch=2))
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(model(photo, style), model(photo, style, model.draw_noise(21, 18)))
    assert (model(photo, style, noise) - model(photo, style)).abs().max() > 1e-3
    state = torch.random.get_rng_state()
    model(photo, style)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers are used up


@torch.no_grad()
def test_the_style_bends_the_scan():
    model = tiny()
    for parameter in model.parameters():  # fresh, the style speaks softly
        parameter.add_(0.2 * torch.randn_like(parameter))
    photo, style = inputs(1, 40, 48)
    picture = model(photo, style)
    for block in (*model.blocks, *model.quarter_blocks):
        nn.init.normal_(block.mixer.bend.weight)
    assert (model(photo, style) - picture).abs().max() > 1e-4


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


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(saved: Path):
    model, loaded = tiny(), Stylizer.from_pretrained(saved)
    assert not loaded.training
    for (name, value), (_, other) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert torch.equal(value, other), name
    public = [key for key in model.config if not key.startswith("_")]
    assert {key: loaded.config[key] for key in public} == {key: model.config[key] for key in public}
    assert loaded.config.widths == (8, 8, 16)
    photo, style = inputs(1, 9, 10)
    assert_same(loaded(photo, style), model(photo, style), 1e-6)
    assert torch.equal(Stylizer.from_pretrained(saved)(photo, style), loaded(photo, style))


def test_config_decides_the_network(tmp_path: Path):
    model = tiny("conv", noise=0, depth=2, clip="some/where")
    model.save_pretrained(tmp_path)
    loaded = Stylizer.from_pretrained(tmp_path)
    assert loaded.config.noise == 0
    assert (loaded.config.mixer, loaded.config.clip, len(loaded.blocks)) == (
        "conv",
        "some/where",
        2,
    )


@torch.no_grad()
def test_bf16_keeps_what_the_scan_needs_in_fp32(saved: Path):
    model = Stylizer.from_pretrained(saved, torch_dtype=torch.bfloat16)
    wide = {n.split(".")[-1] for n, p in model.named_parameters() if p.dtype == torch.float32}
    assert wide == {"A_log", "delta_bias", "D"}
    photo, style = inputs(1, 16, 16)
    picture = model(photo.bfloat16(), style.bfloat16())
    assert picture.dtype == torch.bfloat16
    assert_same(picture.float(), tiny()(photo, style), 0.05)


def test_half_precision_files_load_in_full(saved: Path):
    tensors = load_file(saved / WEIGHTS)
    save_file({k: v.half() for k, v in tensors.items()}, saved / WEIGHTS, {"format": "pt"})
    model = Stylizer.from_pretrained(saved)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda tensors: tensors.pop("head.to_rgb.bias"), "head.to_rgb.bias"),
        (lambda tensors: tensors.update(left=torch.zeros(1)), "left"),
        (lambda tensors: tensors.update({"head.to_rgb.bias": torch.zeros(4)}), "head.to_rgb.bias"),
    ],
    ids=["missing", "extra", "wrong shape"],
)
def test_weights_load_strictly_or_not_at_all(saved: Path, change, word: str):
    rewrite(saved, change)
    with pytest.raises(WeightsError, match=word) as caught:
        Stylizer.from_pretrained(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "/nowhere/at/all", "./here"])
def test_no_folder_is_one_line_at_once(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no stylizer folder at") as caught:
        Stylizer.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_broken_files_are_one_line(saved: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json"):
        Stylizer.from_pretrained(tmp_path / "empty")
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"dept": 3}))
    with pytest.raises(WeightsError, match="unknown keys: dept"):
        Stylizer.from_pretrained(saved)
    (saved / "config.json").write_text(json.dumps(config))
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(WeightsError) as caught:
        Stylizer.from_pretrained(saved)
    assert "\n" not in str(caught.value)


# -- compilers -------------------------------------------------------------------------------------


def test_torch_compile_gives_the_same_picture_and_gradients():
    model = tiny()
    photo, style = inputs(2, 17, 24)
    noise = model.draw_noise(17, 24)
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for run in (model, compiled):
        picture = run(photo, style, noise)
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
        dynamic_shapes=(
            {0: batch, 2: 8 * rows, 3: 8 * columns}, {0: batch}, {2: 4 * rows, 3: 4 * columns}
        ),
    )  # fmt: skip
    scans = [node for node in program.graph.nodes if "selective_scan" in str(node.target)]
    assert len(scans) == 2  # one operator a block
    exported = program.module()
    for size in ((72, 104), (16, 32)):
        photo, style = inputs(3, *size)
        noise = model.draw_noise(*size)
        assert_same(exported(photo, style, noise), model(photo, style, noise))
