"""Every example of docs/python.md runs, in the page's order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from test_readme import ROOT, blocks, needs_weights


@needs_weights
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
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
    for example in blocks(ROOT / "docs/python.md", "python"):
        exec(compile(example, "docs/python.md", "exec"), names)
    assert Image.open("photo-ukiyo-e.png").size == photo.size
    assert Path("my-pipeline/model_index.json").is_file()
    assert isinstance(names["photo"], Image.Image)
    said = capsys.readouterr().out
    assert str(torch.Size([1, 3, 128, 128])) in said
    assert "{'prompt': 'charcoal', 'seed': 3}" in said
