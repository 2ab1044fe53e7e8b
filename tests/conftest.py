"""Tiny but real models: the same classes as the default weights, small and random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

EMBED_DIM = 16


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP in open_clip's local format with random weights."""
    return make_clip(tmp_path_factory.mktemp("clip"), EMBED_DIM, seed=0)


@pytest.fixture(scope="session")
def other_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, whose points have another width."""
    return make_clip(tmp_path_factory.mktemp("other-clip"), EMBED_DIM + 8, seed=1)


def make_clip(folder: Path, embed_dim: int, seed: int) -> Path:
    import open_clip

    model_config = {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
        },
    }  # fmt: skip
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**model_config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path) -> Path:
    """A whole saved pipeline, as `--model` takes it."""
    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.pipelines import StylizePipeline
    from clipmamba.styles import StylePrior

    name = str(tiny_clip_folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stylizer = Stylizer(
            style_dim=EMBED_DIM, clip=name, widths=(8, 8, 8), depth=1, quarter_depth=1,
            head_width=8, state=4, expand=1, code_dim=16,
        )  # fmt: skip
        # A fresh stylizer leaves the photo alone; shaken a little, it changes every
        # picture without driving most of it into black and white.
        for parameter in stylizer.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        prior = StylePrior(
            torch.eye(EMBED_DIM), torch.zeros(EMBED_DIM), torch.eye(EMBED_DIM)[:4],
            torch.full((4,), 0.5), clip_name=name,
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipeline")
    StylizePipeline(stylizer, Clip.from_pretrained(name), prior).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_pipeline_folder: Path):
    """The same pipeline, loaded."""
    from clipmamba.pipelines import StylizePipeline

    return StylizePipeline.from_pretrained(tiny_pipeline_folder, device="cpu")


@pytest.fixture(scope="session")
def tiny_second_folder(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline) -> Path:
    """The same with a stylizer of the second design."""
    from clipmamba.models.second_design import SecondConfig, SecondStylizer
    from clipmamba.pipelines import StylizePipeline

    clip = tiny_pipeline.clip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stylizer = SecondStylizer(
            SecondConfig(
                style_dim=EMBED_DIM, clip=clip.name, widths=(8, 8, 16), depth=1, quarter_depth=1,
                state=4, code_dim=16,
            )
        )  # fmt: skip
        for parameter in stylizer.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("second")
    StylizePipeline(stylizer.eval(), clip, tiny_pipeline.prior).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG's shapes, in half precision as the real file, with small random values."""
    generator = torch.Generator().manual_seed(0)
    swap = torch.eye(3).flip(0)[..., None, None]
    tensors = {"to_bgr.weight": swap, "to_bgr.bias": torch.full((3,), -0.4)}
    for name, inputs, outputs in (
        ("conv1_1", 3, 64), ("conv1_2", 64, 64), ("conv2_1", 64, 128), ("conv2_2", 128, 128),
        ("conv3_1", 128, 256),
    ):  # fmt: skip
        shape = (outputs, inputs, 3, 3)
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (4.5 * inputs) ** -0.5
        tensors[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    file = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, file)
    return file


@pytest.fixture
def photo() -> Image.Image:
    """A small photo, wider than high, that looks different from each side."""
    ramp = Image.linear_gradient("L").resize((48, 32))
    return Image.merge(
        "RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ramp.rotate(90))
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """Debian's Chromium, or whatever stands in its place."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
