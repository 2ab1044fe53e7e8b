"""Tiny but real models: the same classes as the default weights, small and random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

EMBED_DIM = 16


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP in open_clip's local format with random weights."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    model_config = {
        "embed_dim": EMBED_DIM,
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
        torch.manual_seed(0)
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


@pytest.fixture
def photo() -> Image.Image:
    """A small photo, wider than high, that looks different from each side."""
    ramp = Image.linear_gradient("L").resize((48, 32))
    return Image.merge(
        "RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ramp.rotate(90))
    )
