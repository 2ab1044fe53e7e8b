"""Names of the hub and its cache, laid out as huggingface_hub lays it; no network."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from clipmamba.errors import WeightsError
from clipmamba.hub import HubName, check_blobs
from clipmamba.pipelines.saved import FILES, find_pipeline, hub_name, read_index
from clipmamba.weights import ROOT, released


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default weights as a download of ann/prints@v1 leaves them, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    root = tmp_path / "hub" / "models--ann--prints"
    snapshot = root / "snapshots" / ("a" * 40)
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "v1").write_text("a" * 40)
    kept = [asdict(entry) for entry in released() if entry.name != "mini"]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(kept))
    for file in (*FILES, "manifest.json"):
        source = manifest if file == "manifest.json" else ROOT / file
        blob = root / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
        shutil.copyfile(source, blob)
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).symlink_to(blob)
    return snapshot


def test_a_name_leads_to_the_cache_and_other_versions_do_not(cache: Path) -> None:
    assert find_pipeline("ann/prints@v1") == cache
    assert read_index("ann/prints@v1")[0] == "mini"
    assert check_blobs(cache) == len(FILES) + 1
    with pytest.raises(WeightsError, match=r"ann/prints@v2 .*network is forbidden.*models pull"):
        find_pipeline("ann/prints@v2")


def test_damage_is_found(cache: Path) -> None:
    blob = (cache / "stylizer/diffusion_pytorch_model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged.*models pull ann/prints@v1"):
        find_pipeline("ann/prints@v1")
    with pytest.raises(WeightsError, match="damaged"):
        check_blobs(cache)


def test_a_folder_wins_and_a_path_is_never_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name("ann/prints") == HubName("ann/prints")
    assert hub_name(Path("ann/prints")) is None
    for text in ("prints", "./ann/prints", "/ann/prints", "ann/../prints", "ann/prints@../x"):
        assert hub_name(text) is None
    Path("ann/prints").mkdir(parents=True)
    assert hub_name("ann/prints") is None
