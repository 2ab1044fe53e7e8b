"""ComfyUI's nodes as plain functions, and in a real ComfyUI where COMFYUI names its folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clipmamba
from clipmamba.errors import InputError
from clipmamba.integrations import comfyui
from clipmamba.integrations.comfyui import nodes

FOLDER = Path(comfyui.__file__).parent


@pytest.fixture(autouse=True)
def pipe(tiny_pipeline, monkeypatch):
    monkeypatch.setattr(nodes, "load_pipeline", lambda device: tiny_pipeline)
    return tiny_pipeline


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 24, 32, 3, generator=torch.Generator().manual_seed(0))


def words(text: str, avoid: str = ""):
    [style] = nodes.StyleFromWords().ask(text, avoid)
    return style


def restyle(image, style, strength=1.0, stroke=1.0, colors="automatic", seed=-1, mask=None):
    [result] = nodes.Restyle().restyle(image, style, strength, stroke, colors, seed, mask)
    return result


def expected(pipe, image, **options):
    return pipe(image.movedim(-1, 1).contiguous(), **options).images.movedim(1, -1)


def test_it_does_what_the_pipeline_does(pipe, image) -> None:
    result = restyle(image, words("ukiyo-e", "mosaic"), 0.8, 1.5, "photo", 3)
    options = {"strength": 0.8, "stroke": 1.5, "preserve_color": True, "seed": 3}
    wanted = expected(pipe, image, prompt="ukiyo-e", avoid="mosaic", **options)
    assert result.shape == image.shape
    torch.testing.assert_close(result, wanted)
    assert torch.equal(
        restyle(image[1:], words("ukiyo-e", "mosaic"), 0.8, 1.5, "photo", 3), result[1:]
    )


def test_minus_one_is_the_picture_without_a_seed(pipe, image) -> None:
    torch.testing.assert_close(
        restyle(image, words("mosaic")), expected(pipe, image, prompt="mosaic")
    )


def test_colors_are_those_of_the_keyword(pipe, image) -> None:
    choices = nodes.Restyle.INPUT_TYPES()["required"]["colors"][0]
    assert choices == ["automatic", "photo", "style"]
    results = [restyle(image, words("watercolor"), colors=choice) for choice in choices]
    for result, keep in zip(results, (None, True, False), strict=True):
        wanted = expected(pipe, image, prompt="watercolor", preserve_color=keep)
        torch.testing.assert_close(result, wanted)
    assert len({result.numpy().tobytes() for result in results}) == 3


def test_mixes_are_those_of_the_prompts(pipe, image) -> None:
    [inner] = nodes.MixStyles().mix(words("ukiyo-e"), words("mosaic"), 0.5)
    [mixed] = nodes.MixStyles().mix(inner, words("woodcut"), 0.2)
    wanted = expected(pipe, image, prompt=["ukiyo-e:0.4", "mosaic:0.4", "woodcut:0.2"])
    torch.testing.assert_close(restyle(image, mixed), wanted)
    [first] = nodes.MixStyles().mix(words("ukiyo-e"), words("mosaic"), 0.0)
    assert torch.equal(restyle(image, first), restyle(image, words("ukiyo-e")))
    with pytest.raises(InputError, match="share"):
        nodes.MixStyles().mix(inner, inner, 1.5)


def test_words_that_are_hardly_known_are_warned_of(pipe, image, monkeypatch, caplog) -> None:
    plain = type(pipe).prepare
    near = {"mosaic": 1.0, "banana": 0.3}
    monkeypatch.setattr(
        type(pipe), "prepare", lambda *args: replace(plain(*args), familiarity=near[args[1].words])
    )
    restyle(image, words("mosaic"))
    assert not caplog.messages
    [mixed] = nodes.MixStyles().mix(words("mosaic"), words("banana"), 0.5)
    restyle(image, mixed)
    [message] = caplog.messages
    assert "far from every style" in message
    assert "banana" in message


def test_a_picture_shows_the_style(pipe, image) -> None:
    [style] = nodes.StyleFromPicture().ask(image[:1], "a church")
    shown = image[:1].movedim(-1, 1).contiguous()
    wanted = expected(pipe, image, style_image=shown, source="a church")
    torch.testing.assert_close(restyle(image, style), wanted)


def test_lines_of_words_are_mixed(image) -> None:
    [mixed] = nodes.MixStyles().mix(words("ukiyo-e"), words("mosaic"), 0.25)
    lines = restyle(image, words("ukiyo-e:3\n\nmosaic:1"))
    torch.testing.assert_close(lines, restyle(image, mixed))


def test_masks_say_where(image) -> None:
    whole = restyle(image, words("mosaic"))
    mask = torch.zeros(1, 24, 32)
    mask[:, :, 16:] = 1
    for masks in (mask, mask[0], mask.repeat(2, 1, 1)):
        result = restyle(image, words("mosaic"), mask=masks)
        assert torch.equal(result[:, :, :16], image[:, :, :16])
        torch.testing.assert_close(result[:, :, 16:], whole[:, :, 16:])
    one = restyle(image, words("mosaic"), mask=torch.stack([torch.zeros(24, 32), mask[0]]))
    assert torch.equal(one[0], image[0])
    assert not torch.equal(one[1], image[1])
    assert torch.equal(restyle(image, words("mosaic"), mask=torch.zeros(1, 64, 64)), image)
    with pytest.raises(InputError, match="3 masks for 2 pictures"):
        restyle(image, words("mosaic"), mask=torch.ones(3, 24, 32))
    with pytest.raises(InputError, match="aspect ratio"):
        restyle(image, words("mosaic"), mask=torch.ones(1, 64, 64))


def test_alpha_stays_and_no_strength_is_the_photo(image) -> None:
    alpha = torch.cat([image, torch.rand(2, 24, 32, 1)], dim=-1)
    assert torch.equal(restyle(alpha, words("mosaic"))[..., 3], alpha[..., 3])
    assert torch.equal(restyle(alpha, words("mosaic"), strength=0), alpha)


@pytest.mark.parametrize("text", ["", " \n "])
def test_no_words_are_refused(text) -> None:
    with pytest.raises(InputError, match="empty"):
        words(text)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="IMAGE"):
        restyle(torch.rand(1, 8, 8, 1), words("mosaic"))


def test_a_copy_elsewhere_loads_as_comfyui_loads_it(tmp_path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "some-folder.x")
    name = str(copy).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, copy / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        assert set(module.NODE_CLASS_MAPPINGS) == set(nodes.NODE_CLASS_MAPPINGS)
    finally:
        for loaded in [key for key in sys.modules if key.startswith(name)]:
            del sys.modules[loaded]


def test_nodes_the_example_and_the_needs_agree() -> None:
    example = json.loads((FOLDER / "workflow_api.json").read_text())
    ours = [node for node in example.values() if node["class_type"].startswith("Clipmamba")]
    assert {node["class_type"] for node in ours} == set(nodes.NODE_CLASS_MAPPINGS)
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for node in ours:
        takes = nodes.NODE_CLASS_MAPPINGS[node["class_type"]].INPUT_TYPES()
        assert set(node["inputs"]) == set(takes["required"]) | set(takes.get("optional", {}))
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == (FOLDER / "requirements.txt").read_text().split()
    assert project["dependencies"] == ["clipmamba"]  # no torch: ComfyUI has its own


@pytest.mark.slow
@pytest.mark.skipif("COMFYUI" not in os.environ, reason="COMFYUI names no folder of ComfyUI")
def test_the_example_runs_in_comfyui(tmp_path) -> None:
    """COMFYUI_PYTHON may name the Python that has ComfyUI's requirements."""
    source = Path(os.environ["COMFYUI"])
    shutil.copytree(FOLDER, tmp_path / "custom_nodes" / "clipmamba")
    shutil.copytree(source / "input", tmp_path / "input")
    (tmp_path / "page").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), str(source / "main.py"), "--cpu"]
    command += ["--port", str(port), "--base-directory", str(tmp_path), "--disable-api-nodes"]
    command += ["--front-end-root", str(tmp_path / "page"), "--disable-auto-launch"]
    command += ["--database-url", "sqlite:///:memory:"]
    environment = os.environ | {"PYTHONPATH": str(Path(clipmamba.__file__).parents[1])}

    def ask(path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            number, record, until = None, {}, time.monotonic() + 300
            while not record and time.monotonic() < until and server.poll() is None:
                time.sleep(1)
                try:
                    if number is None:
                        example = json.loads((FOLDER / "workflow_api.json").read_text())
                        number = ask("/prompt", {"prompt": example})["prompt_id"]
                    record = ask(f"/history/{number}")
                except urllib.error.URLError as error:
                    if not isinstance(error.reason, ConnectionRefusedError):
                        raise
            log.seek(0)
            assert record, log.read()[-3000:]
        finally:
            server.terminate()
            server.wait(30)
    assert record[number]["status"]["status_str"] == "success", record
    [saved] = record[number]["outputs"]["7"]["images"]
    with Image.open(source / "input" / "example.png") as before:
        photo = torch.from_numpy(np.asarray(before.convert("RGB")).astype(np.float32) / 255)[None]
    [mixed] = nodes.MixStyles().mix(words("ukiyo-e"), nodes.StyleFromPicture().ask(photo)[0], 0.25)
    pipe = clipmamba.StylizePipeline.from_pretrained(device="cpu")
    style = nodes._resolve(pipe, mixed, 7)
    wanted = pipe(photo.movedim(-1, 1).contiguous(), style=style, seed=7).images.movedim(1, -1)
    result = np.asarray(Image.open(tmp_path / "output" / saved["filename"])).astype(float)
    assert np.abs(result - wanted[0].numpy() * 255).max() < 1.01
