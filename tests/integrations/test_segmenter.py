"""A segmenter of transformers finds what words name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba import stylize
from clipmamba.errors import InputError, WeightsError
from clipmamba.integrations.captions import Captioner
from clipmamba.integrations.segmenter import Segmenter

RED, BLUE = (200, 40, 30), (30, 60, 200)


@pytest.fixture(scope="module")
def clipseg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPSeg that has learned where "red" is and where "blue" is."""
    pytest.importorskip("transformers")
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        CLIPTokenizer,
        ViTImageProcessor,
    )

    folder = tmp_path_factory.mktemp("clipseg")
    tokens = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    config = CLIPSegConfig(
        text_config={**size, "vocab_size": len(tokens), "max_position_embeddings": 16,
                     "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**size, "image_size": 32, "patch_size": 4},
        projection_dim=16, reduce_dim=16, extract_layers=[0, 1], decoder_num_attention_heads=2,
        decoder_intermediate_size=32, conditional_layer=0,
    )  # fmt: skip
    processor = CLIPSegProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    pictures = [half_and_half(RED, BLUE), half_and_half(BLUE, RED)] * 2
    words = ["red", "red", "blue", "blue"]
    batch = processor(text=words, images=pictures, padding=True, return_tensors="pt")
    left = torch.zeros(32, 32)
    left[:, :16] = 1
    truth = torch.stack([left, 1 - left, 1 - left, left])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPSegForImageSegmentation(config).train()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(120):
            optimizer.zero_grad()
            logits = model(**batch).logits
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.2
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for semantic segmentation with random weights and three classes."""
    pytest.importorskip("transformers")
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )

    folder = tmp_path_factory.mktemp("segformer")
    labels = {0: "wall", 1: "tree, woody plant", 2: "sky"}
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=16, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SegformerForSemanticSegmentation(config).eval().save_pretrained(folder)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def half_and_half(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (48, 32), right)
    picture.paste(left, (0, 0, 24, 32))
    return picture


def test_a_real_clipseg_finds_words(clipseg_folder: Path) -> None:
    segmenter = Segmenter(str(clipseg_folder), "cpu")
    picture = half_and_half(RED, BLUE)
    for words, sign in (("red", 1), ("blue", -1)):
        mask = segmenter(picture, words)
        assert mask.shape == (32, 32)
        assert 0 <= mask.min() <= mask.max() <= 1
        assert sign * (mask[:, :12].mean() - mask[:, 20:].mean()) > 0.5
    assert torch.equal(segmenter(picture.convert("RGBA"), "blue"), mask)


def test_stylize_goes_where_the_words_are(clipseg_folder: Path, tiny_pipeline_folder) -> None:
    picture = half_and_half(RED, BLUE)
    options = {"model": tiny_pipeline_folder, "device": "cpu", "grain": False}
    made = np.asarray(stylize(picture, "oil", mask="red", segmenter=clipseg_folder, **options))
    whole = np.asarray(stylize(picture, "oil", **options))
    before = np.asarray(picture)
    np.testing.assert_array_equal(made[:, 36:], before[:, 36:])
    np.testing.assert_array_equal(made[8:24, 4:12], whole[8:24, 4:12])


def test_a_model_with_classes_knows_their_names(segformer_folder: Path) -> None:
    segmenter = Segmenter(str(segformer_folder), "cpu")
    picture = half_and_half(RED, BLUE)
    masks = [segmenter(picture, words) for words in ("wall", "Woody Plant", "sky")]
    torch.testing.assert_close(sum(masks), torch.ones_like(masks[0]))
    with pytest.raises(
        InputError, match=r"has no class 'boat'; it has wall, tree, woody plant, sky"
    ):
        segmenter(picture, "boat")


def test_a_model_of_another_kind_is_said_in_one_line(
    segformer_folder: Path, clipseg_folder: Path, captioner_folder: Path
) -> None:
    picture = half_and_half(RED, BLUE)
    with pytest.raises(WeightsError, match=r"of the kind '\w+', not a segmenter$"):
        Segmenter(str(captioner_folder))(picture, "red")
    for folder in (segformer_folder, clipseg_folder):
        with pytest.raises(WeightsError, match=r"of the kind '\w+', not a captioner$"):
            Captioner(str(folder))(picture)


def test_too_many_words_are_refused(clipseg_folder: Path) -> None:
    with pytest.raises(InputError, match=r"too long .* reads 16 tokens, not 17: 'abcdefghijklmno'"):
        Segmenter(str(clipseg_folder), "cpu")(half_and_half(RED, BLUE), "abcdefghijklmno")


# -- what can be missing ---------------------------------------------------------------------


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'clipmamba\[captions\]'"):
        Segmenter("any/model")


@pytest.mark.parametrize("name", ["nobody/nothing", "no-folder-here"])
def test_a_model_out_of_reach_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, photo, name: str
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=f"{name}.*can't be reached.*hf download") as caught:
        Segmenter(name)(photo, "boat")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./no-folder", "two words", "a/b/c"])
def test_a_name_of_no_model_is_refused_before_it_is_asked(name: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match="give an existing folder"):
        Segmenter(name)


def test_a_damaged_folder_is_said_in_one_line(
    damaged: Callable[[Path], Path], clipseg_folder: Path, photo
) -> None:
    folder = damaged(clipseg_folder)
    with pytest.raises(WeightsError) as caught:
        Segmenter(str(folder))(photo, "red")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
