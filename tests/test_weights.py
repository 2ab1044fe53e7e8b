from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmamba import weights as registry
from clipmamba.cli.models import models
from clipmamba.errors import WeightsError


def test_what_ships_is_what_the_manifest_says():
    found = {path.parent.name for path in registry.ROOT.glob("*/*.safetensors")}
    assert {weights.name for weights in registry.released()} == found
    for weights in registry.released():
        registry.verify(weights)
        assert weights.licence
        assert (registry.ROOT / weights.name / "README.md").is_file()
    assert sum(weights.bytes for weights in registry.released()) < 60e6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(registry.ROOT / "prior", tmp_path / "prior")
    entry = next(weights for weights in registry.released() if weights.name == "prior")
    (tmp_path / "manifest.json").write_text(json.dumps([dataclasses.asdict(entry)]))
    return tmp_path


def test_a_changed_file_is_refused_and_measured_anew(root: Path):
    [weights] = registry.released(root)
    registry.verify(weights, root)
    file = weights.path(root)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged.*again"):
        registry.verify(weights, root)
    registry.write_manifest(root)
    [renewed] = registry.released(root)
    registry.verify(renewed, root)
    assert (renewed.licence, renewed.about) == (weights.licence, weights.about)
    file.unlink()
    with pytest.raises(WeightsError, match="missing"):
        registry.verify(renewed, root)


@pytest.mark.parametrize("text", ["{", '[{"name": "x"}]', "[1]"])
def test_a_broken_manifest_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        registry.released(tmp_path)


def test_the_default_pipeline_refuses_damaged_weights(root: Path, monkeypatch):
    from clipmamba.pipelines import StylizePipeline

    (root / "prior" / "prior.safetensors").write_bytes(b"cut")
    monkeypatch.setattr(registry, "ROOT", root)
    monkeypatch.setattr(sys.modules[StylizePipeline.__module__], "ROOT", root)
    with pytest.raises(WeightsError, match="damaged"):
        StylizePipeline.from_pretrained(device="cpu")


def test_the_list_names_size_and_hash(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    result = CliRunner().invoke(models, ["--check"])
    assert result.exit_code == 0, result.output
    for weights in registry.released():
        assert weights.sha256 in result.output
    assert result.output.count("(verified)") == len(registry.released())


def test_the_list_needs_no_torch():
    code = "import sys, clipmamba.cli.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
