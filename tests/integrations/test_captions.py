"""A captioner says what is shown, and that is taken out of the style."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from clipmamba import stylize
from clipmamba.errors import InputError, WeightsError
from clipmamba.integrations.captions import Captioner, without_medium
from clipmamba.integrations.diffusion import Finisher, StylePainter
from clipmamba.integrations.segmenter import Segmenter

CHURCH, BOAT = (200, 40, 30), (30, 60, 200)


@pytest.fixture
def church() -> Image.Image:
    return Image.new("RGB", (40, 30), CHURCH)


@pytest.fixture
def boat() -> Image.Image:
    return Image.new("RGB", (40, 30), BOAT)


@pytest.fixture
def tiny(tiny_pipeline_folder: Path) -> dict[str, object]:
    return {"model": tiny_pipeline_folder, "device": "cpu", "grain": False}


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


def test_a_real_captioner_tells_pictures_apart(captioner_folder: Path, church, boat) -> None:
    captioner = Captioner(str(captioner_folder), "cpu")
    assert captioner(church) == "a red church"  # it says "a painting of a red church"
    assert captioner(boat) == "a blue boat"
    assert captioner(boat.convert("L").convert("RGBA"))  # any mode


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a painting of a church by the sea", "a church by the sea"),
        ("an oil painting of two cats", "two cats"),
        ("a black and white photo of a street", "a street"),
        ("a close up of a picture of a dog .", "a dog"),
        ("there is a boat on the lake", "there is a boat on the lake"),
        ("a man painting a wall", "a man painting a wall"),
        ("a photographer of weddings", "a photographer of weddings"),
        ("a field of flowers", "a field of flowers"),
    ],
)
def test_words_for_the_medium_are_style_and_stay(said: str, meant: str) -> None:
    assert without_medium(said) == meant


def test_each_photo_is_described_for_itself(captioner_folder: Path, church, boat, tiny) -> None:
    auto = stylize([church, boat], "a red boat", source="auto", captioner=captioner_folder, **tiny)
    said = [
        stylize(photo, "a red boat", source=words, **tiny)
        for photo, words in ((church, "a red church"), (boat, "a blue boat"))
    ]
    plain = stylize([church, boat], "a red boat", **tiny)
    for found, wanted, without in zip(auto, said, plain, strict=True):
        assert same(found, wanted)
        assert not same(found, without)


def test_a_style_picture_is_described_in_the_photos_place(church, boat, tiny) -> None:
    asked = []

    def captioner(picture: Image.Image) -> str:
        asked.append(picture.getpixel((0, 0)))
        return "a blue boat"

    auto = stylize(
        [church, church], style_image=boat, source="auto", captioner=captioner, variants=2, **tiny
    )
    assert asked == [BOAT]  # once for all photos and variants
    wanted = stylize(church, style_image=boat, source="a blue boat", variants=2, **tiny)
    assert [len(variants) for variants in auto] == [2, 2]
    assert all(same(a, b) for variants in auto for a, b in zip(variants, wanted, strict=True))


def test_kinds_and_progress_are_as_ever(tiny) -> None:
    told = []
    photo = torch.rand(1, 3, 24, 32)
    result = stylize(
        photo, "oil", source="auto", captioner=lambda _: "a dog", variants=2,
        callback=lambda done, total: told.append((done, total)), **tiny,
    )  # fmt: skip
    assert [one.shape for one in result] == [photo.shape, photo.shape]
    assert told[-1] == (2, 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"captioner": lambda _: "a cat"}, "without source='auto'"),
        ({"source": "a cat", "captioner": lambda _: "a cat"}, "without source='auto'"),
    ],
)
def test_a_captioner_with_nothing_to_do_is_refused(church, tiny, keywords, message) -> None:
    with pytest.raises(InputError, match=message):
        stylize(church, "oil", **keywords, **tiny)


def test_a_batch_has_no_single_caption(tiny) -> None:
    with pytest.raises(InputError, match="give a list"):
        stylize(torch.rand(2, 3, 24, 32), "oil", source="auto", captioner=lambda _: "x", **tiny)


def test_auto_is_never_read_as_a_word(tiny_pipeline) -> None:
    with pytest.raises(InputError, match="captioner"):
        tiny_pipeline.encode_style("oil", source="auto")


@pytest.fixture
def llava_folder(tmp_path: Path) -> Path:
    """A LLaVA with random weights: it answers questions, and describes nothing by itself."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3, "a": 4}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), unk_token="<unk>",
        bos_token="<s>", eos_token="</s>", pad_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=32, patch_size=16),
        text_config=LlamaConfig(**size, vocab_size=len(words), max_position_embeddings=64),
        image_token_index=3,
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    LlavaProcessor(
        pictures, tokenizer, patch_size=16, vision_feature_select_strategy="default"
    ).save_pretrained(tmp_path)
    return tmp_path


def test_a_model_that_wants_a_question_is_said_in_one_line(llava_folder: Path, church) -> None:
    with pytest.raises(InputError, match=r"without a question \(.*\); give another") as caught:
        Captioner(str(llava_folder), "cpu")(church)
    assert "\n" not in str(caught.value)


# -- what can be missing ---------------------------------------------------------------------


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'clipmamba\[captions\]'"):
        Captioner("any/model")


@pytest.mark.parametrize("name", ["nobody/nothing", "no-folder-here"])
def test_a_model_out_of_reach_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, church, name: str
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=f"{name}.*can't be reached.*hf download") as caught:
        Captioner(name)(church)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./no-folder", "two words", "a/b/c"])
def test_a_name_of_no_model_is_refused_before_it_is_asked(name: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match="give an existing folder"):
        Captioner(name)


@pytest.mark.parametrize("kind", [Captioner, Segmenter, Finisher, StylePainter])
def test_a_file_is_not_taken_for_a_name_of_the_hub(monkeypatch, tmp_path: Path, kind: type) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    Path("blip.safetensors").touch()
    with pytest.raises(WeightsError, match="safetensors is a file; give the model's folder"):
        kind("blip.safetensors")


def test_a_damaged_folder_is_said_in_one_line(
    damaged: Callable[[Path], Path], captioner_folder: Path, church
) -> None:
    folder = damaged(captioner_folder)
    with pytest.raises(WeightsError) as caught:
        Captioner(str(folder))(church)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
