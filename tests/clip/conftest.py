from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipmamba.clip import Clip

MODEL_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS_CONFIG = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.25, 0.3, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def _write_clip(folder: Path, model_config=MODEL_CONFIG, **preprocess_config) -> Path:
    """A folder in open_clip's own format with fp16 weights, as `mini` is stored."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**model_config)
    config = {
        "model_cfg": model_config,
        "preprocess_cfg": {**PREPROCESS_CONFIG, **preprocess_config},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    return _write_clip


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    return _write_clip(tmp_path / "tiny")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip.from_pretrained(str(_write_clip(tmp_path_factory.mktemp("clip") / "tiny")))
