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
        assert first == str(folder / name)
        assert [line.split()[0] for line in inputs] == [
            "photo",
            "noise",
            *(["style"][: not prompt]),
        ]
        assert output.split()[0] == "picture"
    assert {path.name for path in folder.iterdir()} == {"any.onnx", "ukiyo-e.onnx"}
    return folder


def session(path: Path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def noise_for(model, height: int, width: int) -> torch.Tensor:
    return model.draw_noise(height + 2 * model.margin, width + 2 * model.margin, seed=3)


def with_margin(model, photo, style, noise) -> torch.Tensor:
    margin = model.margin
    padded = torch.nn.functional.pad(photo, (margin,) * 4, mode="replicate")
    picture = model(padded, style, noise)[..., margin:-margin, margin:-margin]
    return into_gamut(picture)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (72, 104), (61, 45), (1, 1), (9, 200)])
def test_any_size_and_batch_agree_with_torch(files, tiny_pipeline, size, batch):
    model = tiny_pipeline.stylizer
    photo = torch.rand(batch, 3, *size)
    noise = noise_for(model, *size)
    style = torch.nn.functional.normalize(torch.randn(batch, model.config.style_dim), dim=1)
    expected = with_margin(model, photo, style, noise)
    given = {"photo": photo, "noise": noise, "style": style}
    (found,) = session(files / "any.onnx").run(None, {k: v.numpy() for k, v in given.items()})
    assert found.shape == expected.shape
    assert np.abs(found - expected.numpy()).max() <= 1e-3
    assert np.abs(found - photo.numpy()).max() > 0.01


@pytest.mark.slow
def test_a_prompt_is_baked_in(files, tiny_pipeline):
    model = tiny_pipeline.stylizer
    run = session(files / "ukiyo-e.onnx")
    assert [value.name for value in run.get_inputs()] == ["photo", "noise"]
    photo, noise = torch.rand(2, 3, 40, 51), noise_for(model, 40, 51)
    point = tiny_pipeline.encode_style("ukiyo-e").expand(2, -1)
    (found,) = run.run(None, {"photo": photo.numpy(), "noise": noise.numpy()})
    expected = with_margin(model, photo, point, noise)
    assert np.abs(found - expected.numpy()).max() <= 1e-3


@pytest.mark.slow
def test_a_file_alone_draws_the_pipelines_picture(files, tiny_pipeline):
    """Whoever runs the file adds no margin and cuts none off."""
    photo = torch.rand(1, 3, 40, 51)
    run = session(files / "ukiyo-e.onnx")
    noise = noise_for(tiny_pipeline.stylizer, 40, 51)
    (found,) = run.run(None, {"photo": photo.numpy(), "noise": noise.numpy()})
    style = Style(tiny_pipeline.encode_style("ukiyo-e")[0], clip=tiny_pipeline.clip.name)
    expected = tiny_pipeline(photo, style=style, seed=3).images  # of words, 3 is another point
    assert np.abs(found - expected.numpy()).max() <= 1e-3


@pytest.mark.slow
def test_the_file_is_plain_onnx_with_a_scan_for_each_scan(files):
    model = onnx.load(files / "any.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [node.op_type for node in model.graph.node].count(
        "Scan"
    ) == 6  # depth 1 and 1, three loops each
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}


@pytest.fixture(scope="module")
def second_file(tiny_second_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the second design that takes styles."""
    path = tmp_path_factory.mktemp("onnx") / "second.onnx"
    result = invoke("export", path, "--model", tiny_second_folder)
    assert result.exit_code == 0, result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()[1:]]
    assert names == ["photo", "noise", "style", "stroke", "picture"]
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "stroke"), [((300, 257), 1.0), ((261, 45), 2.0), ((1, 256), 0.5), ((256, 9), 1.0)]
)
def test_the_second_design_draws_the_pipelines_picture(
    second_file, tiny_second_folder, size, stroke
):
    from clipmamba import StylizePipeline

    pipeline = StylizePipeline.from_pretrained(tiny_second_folder, "cpu")
    photo = torch.rand(2, 3, *size)
    noise = noise_for(pipeline.stylizer, *size)
    styles = pipeline.encode_style("ukiyo-e").expand(2, -1)
    strokes = torch.tensor([stroke])
    given = {"photo": photo, "noise": noise, "style": styles, "stroke": strokes}
    (found,) = session(second_file).run(None, {k: v.numpy() for k, v in given.items()})
    if min(size) < pipeline.stylizer.margin:  # the pipeline's margin is no wider than the photo
        margin = pipeline.stylizer.margin
        padded = torch.nn.functional.pad(photo, (margin,) * 4, mode="replicate")
        network = pipeline.network_for(max(size), stroke)
        expected = into_gamut(network(padded, styles, noise))
        expected = expected[..., margin : margin + size[0], margin : margin + size[1]]
    else:
        style = Style(styles[0], clip=pipeline.clip.name)
        expected = pipeline(photo, style=style, stroke=stroke, seed=3).images
    assert np.abs(found - expected.detach().numpy()).max() <= 1e-3
    assert np.abs(found - photo.numpy()).max() > 0.01


@pytest.mark.slow
def test_the_second_design_scans_all_lines_at_once(second_file):
    """One loop a direction, of as many steps as the picture has columns or rows."""
    model = onnx.load(second_file)
    onnx.checker.check_model(model)
    scans = [node for node in model.graph.node if node.op_type == "Scan"]
    assert len(scans) == 4  # depth 1
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert "Softplus" not in [node.op_type for node in model.graph.node]


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


def test_what_can_be_wrong_is_said_before_torch_loads(here):
    Path("there.onnx").write_text("old")
    for arguments, words in (
        (("there.onnx",), "--overwrite"),
        (("file.pt",), ".onnx"),
        (("no/such/file.onnx",), "folder"),
        (("a.onnx", "-p", " "), "empty"),
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
