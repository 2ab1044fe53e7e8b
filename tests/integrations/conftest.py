"""Tiny real models of transformers and diffusers, saved as their own `save_pretrained` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

FAULTS = ("no config", "config", "weights", "no weights")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "red", "church",
         "blue", "boat", "painting", "of"]  # fmt: skip
CHURCH, BOAT = (200, 40, 30), (30, 60, 200)
CAPTIONS = {CHURCH: "a painting of a red church", BOAT: "a blue boat"}


@pytest.fixture(scope="session")
def captioner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP that has learned to tell a red picture from a blue one."""
    pytest.importorskip("transformers")
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), bos_token="[DEC]")
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2}  # fmt: skip
    ids = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config={**size, **ids, "vocab_size": len(WORDS), "encoder_hidden_size": 32,
                     "max_position_embeddings": 40, "projection_dim": 16},
        vision_config={**size, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    pictures = [Image.new("RGB", (40, 30), color) for color in CAPTIONS]
    batch = processor(
        images=pictures, text=list(CAPTIONS.values()), padding=True, return_tensors="pt"
    )
    batch["input_ids"][:, 0] = 5  # [DEC], which sentences start with
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BlipForConditionalGeneration(config).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(80):
            optimizer.zero_grad()
            loss = model(**batch, labels=labels).loss
            loss.backward()
            optimizer.step()
    assert loss.item() < 2
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_diffusion(folder: Path, *, refuses: bool = False) -> Path:
    """A text-to-image model with random weights, at 64 px, with its safety checker."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel as UNet
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
    )

    tokens = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz "]
    tokens += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    words = folder / "words"
    words.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (words / "vocab.json").write_text(json.dumps(vocabulary))
    (words / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=16
    )
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(**size, vocab_size=len(tokens), max_position_embeddings=16,
                           bos_token_id=0, eos_token_id=1)
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=4, sample_size=64,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        )  # fmt: skip
        unet = UNet(
            sample_size=32, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            in_channels=4, out_channels=4, cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        seen = {**size, "image_size": 32, "patch_size": 16}
        checker = StableDiffusionSafetyChecker(
            CLIPConfig(text_config=size, vision_config=seen, projection_dim=8)
        )
    level = -2.0 if refuses else 2.0  # what a cosine must exceed to be refused
    checker.concept_embeds_weights.data.fill_(level)
    checker.special_care_embeds_weights.data.fill_(level)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    ).save_pretrained(folder / "model")  # fmt: skip
    return folder / "model"


@pytest.fixture(scope="session")
def diffusion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion that paints noise, and finds nothing wrong with it."""
    pytest.importorskip("transformers")
    return save_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture(scope="session")
def refusing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a safety checker that refuses everything."""
    pytest.importorskip("transformers")
    return save_diffusion(tmp_path_factory.mktemp("refusing"), refuses=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawn pictures are kept here; models of the hub are looked for in an empty place."""
    monkeypatch.setenv("CLIPMAMBA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=FAULTS)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a model's folder and damages the copy, in each way in turn."""

    def copy(source: Path) -> Path:
        folder = tmp_path / source.name
        shutil.copytree(source, folder)
        weights = folder / "model.safetensors"
        if request.param == "no config":
            (folder / "config.json").unlink()
        elif request.param == "config":
            (folder / "config.json").write_text(json.dumps({"model_type": "nothing"}))
        elif request.param == "weights":
            weights.write_bytes(weights.read_bytes()[:1000])
        else:
            weights.unlink()
        return folder

    return copy
