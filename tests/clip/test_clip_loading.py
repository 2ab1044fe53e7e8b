from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmamba.clip import Clip, loading
from clipmamba.errors import InputError, WeightsError

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
MINI_CONFIG = {
    "embed_dim": 256,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 160,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 192, "heads": 6, "layers": 4},
}


def refused(name: str | Path, *words: str, **options: object) -> None:
    """Loading fails with one clear line that names the words."""
    with pytest.raises(WeightsError) as caught:
        Clip.from_pretrained(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def edit_config(folder: Path, change) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def test_loads_the_stored_weights_in_fp32(clip_folder: Path) -> None:
    clip = Clip.from_pretrained(str(clip_folder))
    stored = load_file(clip_folder / WEIGHTS)
    loaded = clip.model.state_dict()
    assert set(loaded) == set(stored)
    for name, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float())
    assert (clip.embed_dim, clip.context_length, clip.image_size) == (16, 12, 32)
    assert clip.name == str(clip_folder)


def test_the_format_of_mini_loads(
    write_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_clip(tmp_path / "mini", MINI_CONFIG, mean=[127 / 255] * 3, std=[128 / 255] * 3)
    monkeypatch.setattr(loading, "MINI_FOLDER", folder)
    clip = Clip.from_pretrained()
    assert (clip.name, clip.embed_dim, clip.context_length, clip.image_size) == (
        "mini", 256, 32, 160,
    )  # fmt: skip
    plain = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["ukiyo-e"])
    with torch.no_grad():
        expected = plain.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip.encode_text("ukiyo-e"), expected)


def test_shipped_mini_loads() -> None:
    if not loading.MINI_FOLDER.exists():
        pytest.skip("mini is not trained yet")
    clip = Clip.from_pretrained("mini")
    assert clip.encode_text(["ukiyo-e", "baroque"]).shape == (2, clip.embed_dim)


def test_missing_key(clip_folder: Path) -> None:
    edit_weights(clip_folder, lambda tensors: tensors.pop("ln_final.weight"))
    refused(clip_folder, "ln_final.weight", "issing")


def test_extra_key(clip_folder: Path) -> None:
    edit_weights(clip_folder, lambda tensors: tensors.update(surplus=torch.zeros(2)))
    refused(clip_folder, "surplus", "nexpected")


def test_wrong_shape(clip_folder: Path) -> None:
    edit_weights(clip_folder, lambda tensors: tensors.update({"ln_final.weight": torch.ones(3)}))
    refused(clip_folder, "ln_final.weight")


def test_position_table_is_not_stretched(clip_folder: Path) -> None:
    edit_config(clip_folder, lambda c: c["model_cfg"]["text_cfg"].update(context_length=20))
    open_clip.create_model(f"local-dir:{clip_folder}", require_pretrained=True)  # lets it pass
    refused(clip_folder, "positional_embedding", "(12, 16)", "(20, 16)")


@pytest.mark.parametrize(
    "name", ["open_clip_pytorch_model.safetensors", "model.safetensors", "mine.safetensors",
             "open_clip_pytorch_model.bin", "mine.pth"],
)  # fmt: skip
def test_no_file_name_lets_a_stretched_table_through(clip_folder: Path, name: str) -> None:
    file = clip_folder / WEIGHTS
    if name.endswith(".safetensors"):
        file.rename(clip_folder / name)
    else:
        torch.save(load_file(file), clip_folder / name)
        file.unlink()
    assert Clip.from_pretrained(str(clip_folder)).context_length == 12
    edit_config(clip_folder, lambda c: c["model_cfg"]["text_cfg"].update(context_length=20))
    refused(clip_folder, "positional_embedding", "(12, 16)", "(20, 16)")


def test_numbers_that_are_not_finite_are_refused(clip_folder: Path) -> None:
    edit_weights(clip_folder, lambda tensors: tensors["ln_final.weight"].fill_(float("nan")))
    refused(clip_folder, "ln_final.weight", "not finite")


def test_a_tokenizer_of_a_folder_never_asks_the_network(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr(
        open_clip, "get_tokenizer", lambda *_, **options: asked.update(options) or list
    )
    edit_config(clip_folder, lambda c: c["model_cfg"]["text_cfg"].update(hf_tokenizer_name="a/b"))
    Clip.from_pretrained(str(clip_folder))
    assert asked["local_files_only"] is True


def test_missing_or_broken_weights(clip_folder: Path) -> None:
    whole = (clip_folder / WEIGHTS).read_bytes()
    (clip_folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    refused(clip_folder, "can't load")
    (clip_folder / WEIGHTS).unlink()
    refused(clip_folder, WEIGHTS)
    save_file({}, clip_folder / WEIGHTS)
    refused(clip_folder)


def test_empty_and_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path, CONFIG)
    refused(tmp_path / "none", "no CLIP folder")
    refused("local-dir:none", "no CLIP folder")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.pop("model_cfg"), "model_cfg"),
        (lambda c: c["model_cfg"].pop("text_cfg"), "text_cfg"),
        (lambda c: c["model_cfg"]["text_cfg"].update(widht=3), "widht"),
        (lambda c: c["preprocess_cfg"].update(crop="yes"), "crop"),
    ],
)
def test_bad_config(clip_folder: Path, change, word: str) -> None:
    edit_config(clip_folder, change)
    refused(clip_folder, word)


def test_config_that_is_not_json(clip_folder: Path) -> None:
    (clip_folder / CONFIG).write_text("{")
    refused(clip_folder, "not an open_clip config")


def test_unknown_names_are_corrected() -> None:
    refused("ViT-B-23/openai", "did you mean 'ViT-B-32'?")
    refused("miny", "did you mean 'mini'?")
    refused("ViT-B-32/laion2b_s34b_b97k", "did you mean 'laion2b_s34b_b79k'?")
    refused("ViT-B-32", "ViT-B-32/TAG", "openai")


def test_bad_arguments(clip_folder: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        Clip.from_pretrained("")
    with pytest.raises(InputError, match="unknown device 'gpu9'"):
        Clip.from_pretrained(str(clip_folder), device="gpu9")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub address where nothing listens."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:org/name"])
def test_unreachable_hub_fails_at_once(name: str, tmp_path: Path) -> None:
    start = time.monotonic()
    refused(name, "can't be reached", "hf download", cache_dir=tmp_path)
    assert time.monotonic() - start < 5
    refused(name, "local cache", "hf download", cache_dir=tmp_path, local_files_only=True)


def hub_cache(cache: Path, repo: str, folder: Path, files: list[str]) -> None:
    """The hub's cache as a finished download leaves it."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    for file in files:
        shutil.copy(folder / file, snapshot / file)


@pytest.mark.usefixtures("no_hub")
def test_hub_repository_from_the_cache(clip_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hub_cache(cache, "org/name", clip_folder, [WEIGHTS, CONFIG])
    clip = Clip.from_pretrained("hf-hub:org/name", cache_dir=cache)
    assert clip.name == "hf-hub:org/name"
    expected = Clip.from_pretrained(str(clip_folder)).encode_text("fresco")
    assert torch.equal(clip.encode_text("fresco"), expected)


@pytest.mark.usefixtures("no_hub")
def test_released_tag_from_the_cache(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tiny architecture stands where open_clip keeps its own; its tag asks for QuickGELU.
    config = json.loads((clip_folder / CONFIG).read_text())["model_cfg"]
    release = {"hf_hub": "org/tiny/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "url": ""}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny", {"ours": release})
    hub_cache(tmp_path / "cache", "org/tiny", clip_folder, [WEIGHTS])
    clip = Clip.from_pretrained("Tiny/ours", cache_dir=tmp_path / "cache")
    assert any(isinstance(m, open_clip.transformer.QuickGELU) for m in clip.modules())
    black = clip.preprocess(torch.zeros(1, 3, 32, 32))[0, :, 0, 0]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)
    torch.testing.assert_close(black, -torch.tensor([0.1, 0.2, 0.3]) / std)


def test_import_loads_no_open_clip() -> None:
    code = (
        "import sys, clipmamba.clip; print([m for m in sys.modules if m in {'open_clip','timm'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.sub(r"\s", "", done.stdout) == "[]"
