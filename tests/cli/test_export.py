"""The command's ONNX files in ONNX Runtime, beside the network they were made from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import fresh, invoke

from clipmamba import Style
from clipmamba.models.gamut import into_gamut

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
from test_readme import blocks  # noqa: E402

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def files(tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with any.onnx, which takes styles, and ukiyo-e.onnx, which holds one."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, prompt in (("any.onnx", ()), ("ukiyo-e.onnx", ("-p", "ukiyo-e"))):
        result = invoke("export", folder / name, *prompt, "--model", tiny_pipeline_folder)
        assert result.exit_code == 0, result.stderr
        first, *inputs, output = result.stdout.splitlines()
        assert first == str(folder / name)  # and no line on colors: ukiyo-e has its own
        assert [line.split()[0] for line in inputs] == [
            "photo",
            "noise",
            "stroke",
            *(["style"][: not prompt]),
        ]
        assert output.split()[0] == "picture"
    assert {path.name for path in folder.iterdir()} == {"any.onnx", "ukiyo-e.onnx"}
    return folder


def session(path: Path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def noise_for(model, height: int, width: int) -> torch.Tensor:
    return model.draw_noise(height + 2 * model.margin, width + 2 * model.margin, seed=3)


def with_margin(pipeline, photo, style, noise, stroke: float = 1.0) -> np.ndarray:
    """The picture with a margin all around, however small the photo is."""
    margin, side = pipeline.stylizer.margin, max(photo.shape[2:])
    padded = torch.nn.functional.pad(photo, (margin,) * 4, mode="replicate")
    picture = pipeline.network_for(side, stroke)(padded, style, noise)
    return into_gamut(picture[..., margin:-margin, margin:-margin]).numpy()


def run(path: Path, **given: torch.Tensor) -> np.ndarray:
    given.setdefault("stroke", torch.ones(1))
    return session(path).run(None, {name: value.numpy() for name, value in given.items()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("size", "stroke"),
    [((64, 64), 1), ((72, 104), 2), ((61, 45), 0.5), ((1, 1), 1), ((9, 300), 1)],
)
def test_any_size_batch_and_stroke_agree_with_torch(files, tiny_pipeline, size, batch, stroke):
    model = tiny_pipeline.stylizer
    photo, noise = torch.rand(batch, 3, *size), noise_for(model, *size)
    style = torch.nn.functional.normalize(torch.randn(batch, model.config.style_dim), dim=1)
    expected = with_margin(tiny_pipeline, photo, style, noise, stroke)
    strokes = torch.tensor([float(stroke)])
    found = run(files / "any.onnx", photo=photo, noise=noise, style=style, stroke=strokes)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-3
    assert np.abs(found - photo.numpy()).max() > 0.01


@pytest.mark.slow
def test_a_prompt_is_baked_in(files, tiny_pipeline):
    names = [value.name for value in session(files / "ukiyo-e.onnx").get_inputs()]
    assert names == ["photo", "noise", "stroke"]
    photo, noise = torch.rand(2, 3, 40, 51), noise_for(tiny_pipeline.stylizer, 40, 51)
    point = tiny_pipeline.encode_style("ukiyo-e").expand(2, -1)
    found = run(files / "ukiyo-e.onnx", photo=photo, noise=noise)
    assert np.abs(found - with_margin(tiny_pipeline, photo, point, noise)).max() <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "stroke"), [((640, 251), 0.8), ((340, 251), 1.0), ((97, 128), 2.0)]
)
def test_a_file_alone_draws_the_pipelines_picture(files, tiny_pipeline, size, stroke):
    """Whoever runs the file at the working size adds no margin and cuts none off."""
    photo = torch.rand(1, 3, *size)
    noise = noise_for(tiny_pipeline.stylizer, *size)
    strokes = torch.tensor([stroke])
    found = run(files / "ukiyo-e.onnx", photo=photo, noise=noise, stroke=strokes)
    style = Style(tiny_pipeline.encode_style("ukiyo-e")[0], clip=tiny_pipeline.clip.name)
    expected = tiny_pipeline(photo, style=style, seed=3, stroke=stroke).images
    assert np.abs(found - expected.numpy()).max() <= 1e-3


@pytest.mark.slow
def test_the_file_is_plain_onnx_with_a_loop_for_rows_and_one_for_columns(files):
    """Each loop has as many steps as the picture has columns or rows at an eighth of its size."""
    model = onnx.load(files / "any.onnx")
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Scan") == 2  # depth 1
    assert "Softplus" not in kinds
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}


@pytest.mark.slow
def test_the_pages_examples_run(files, photo, tiny_pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.save("photo.jpg")
    Path("ukiyo-e.onnx").symlink_to(files / "ukiyo-e.onnx")
    Path("stylizer.onnx").symlink_to(files / "any.onnx")
    made = invoke("embed", "-p", "oil", "-o", "mine.safetensors", "--model", tiny_pipeline_folder)
    assert made.exit_code == 0, made.stderr
    names = {}
    for example in blocks(ROOT / "docs/export.md", "python"):
        exec(compile(example, "docs/export.md", "exec"), names)
    pictures = [Image.open(name) for name in ("photo-ukiyo-e.png", "photo-mine.png")]
    assert [picture.size for picture in pictures] == [photo.size] * 2
    assert len({picture.tobytes() for picture in (*pictures, Image.open("photo.jpg"))}) == 3


@pytest.mark.slow
def test_an_app_learns_what_is_left_to_it(tiny_pipeline_folder, tmp_path):
    file = tmp_path / "pixels.onnx"
    result = invoke("export", file, "-p", "pixel art", "--model", tiny_pipeline_folder)
    assert "keeps 0.6 of the photo's colors" in result.stdout.splitlines()[-2]
    assert "has square blocks" in result.stdout.splitlines()[-1]
    metadata = session(file).get_modelmeta().custom_metadata_map
    assert (metadata["photo_color"], metadata["pixelated"]) == ("0.6", "1")


def test_what_can_be_wrong_is_said_before_torch_loads(here):
    Path("there.onnx").write_text("old")
    for arguments, words in (
        (("there.onnx",), "--overwrite"),
        (("file.pt",), ".onnx"),
        (("no/such/file.onnx",), "folder"),
        (("a.onnx", "-p", " "), "empty"),
        (("a.onnx", "--seed", "5"), "--seed has no effect"),
        (("a.onnx", "--model", "nowhere"), "nowhere"),
    ):
        done = fresh("export", *arguments)
        assert done.returncode in (2, 3)
        assert done.stderr.startswith("Error: ")
        assert words in done.stderr
        assert done.stderr.endswith("\nLOADED\n")
    assert Path("there.onnx").read_text() == "old"


def test_a_missing_package_is_named_with_its_extra(here, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxscript" else real(name),
    )
    result = invoke("export", "a.onnx")
    assert result.exit_code == 2
    assert "onnxscript: pip install 'clipmamba[export]'" in result.stderr
    assert not Path("a.onnx").exists()
