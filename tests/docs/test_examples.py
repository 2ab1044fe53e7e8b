"""The Python blocks of the documentation's pages run, in the page's order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_readme import ROOT, blocks, needs_weights


def run_blocks(page: str, names: dict[str, Any]) -> None:
    for example in blocks(ROOT / "docs" / page, "python"):
        exec(compile(example, f"docs/{page}", "exec"), names)


@needs_weights
def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(ROOT / "assets/photos/pagoda.jpg") as opened:
        photo = opened.convert("RGB").resize((120, 96))
    for name in ("photo", "a", "b", "painting", "print"):
        photo.save(f"{name}.jpg")
    for name, box in (("sky", (0, 0, 120, 40)), ("house", (30, 40, 90, 96))):
        mask = Image.new("L", photo.size)
        mask.paste(255, box)
        mask.save(f"{name}.png")
    names: dict[str, object] = {}
    run_blocks("python.md", names)
    assert Image.open("photo-ukiyo-e.png").size == photo.size
    assert Path("my-pipeline/model_index.json").is_file()
    assert isinstance(names["photo"], Image.Image)
    said = capsys.readouterr().out
    assert str(torch.Size([1, 3, 128, 128])) in said
    assert "{'prompt': 'charcoal', 'seed': 3}" in said


# -- pages that speak of tensors at hand: what each takes for given ---------------------------


def given_clip() -> dict[str, Any]:
    from clipmamba.styles import StylePrior

    points = torch.nn.functional.normalize(torch.randn(2, 40, 256), dim=-1)
    return {
        "pictures": torch.rand(1, 3, 64, 80),
        "picture": Image.new("RGB", (64, 48), "teal"),
        "StylePrior": StylePrior,
        "text_embeddings": points[0],
        "image_embeddings": points[1],
    }


def given_losses() -> dict[str, Any]:
    from accelerate import Accelerator

    from clipmamba.clip import Clip
    from clipmamba.losses import ContrastiveDirectionLoss, PatchDirectionalLoss
    from clipmamba.train.distributed import gather_with_gradient

    clip = Clip.from_pretrained()
    return {
        "clip": clip,
        "photo": torch.rand(2, 3, 96, 96),
        "output": torch.rand(2, 3, 96, 96),
        "style": clip.encode_text(["mosaic", "woodcut"]),
        "source": clip.encode_text(["a photo"]),
        "generator": torch.Generator().manual_seed(0),
        "PatchDirectionalLoss": PatchDirectionalLoss,
        "ContrastiveDirectionLoss": ContrastiveDirectionLoss,
        "functools": functools,
        "gather_with_gradient": gather_with_gradient,
        "accelerator": Accelerator(cpu=True),
    }


def given_ops() -> dict[str, Any]:
    pytest.importorskip("transformers")
    return {
        "u": torch.randn(2, 8, 20),
        "delta": torch.rand(2, 8, 20),
        "A": -torch.rand(8, 4),
        "B": torch.randn(2, 4, 20),
        "C": torch.randn(2, 4, 20),
        "D": torch.randn(8),
        "z": torch.randn(2, 8, 20),
        "delta_bias": torch.rand(8),
        "x": torch.randn(2, 8, 4, 5),
        "y": torch.randn(2, 4, 8, 20),
        "height": 4,
        "width": 5,
    }


def given_painters() -> dict[str, Any]:
    pytest.importorskip("skimage")
    return {"photo": np.random.default_rng(0).random((64, 64, 3), np.float32)}


PAGES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, Callable[[Any], bool]]]] = {
    "clip.md": (given_clip, {"text": lambda rows: rows.shape == (1, 256)}),
    "losses.md": (given_losses, {"loss": lambda loss: 0 < float(loss) < 2}),
    "ops.md": (given_ops, {
        "last": lambda state: state.shape == (2, 8, 4),
        "sequences": lambda rows: rows.shape == (2, 4, 8, 20),
        "merged": lambda rows: rows.shape == (2, 8, 20),
    }),
    "painters.md": (given_painters, {"picture": lambda array: array.shape == (64, 64, 3)}),
}  # fmt: skip


@needs_weights
@pytest.mark.parametrize("page", PAGES)
def test_examples_with_given_values_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    give, wanted = PAGES[page]
    names = give()
    run_blocks(page, names)
    for name, is_right in wanted.items():
        assert is_right(names[name]), name
