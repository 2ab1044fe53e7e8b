"""Our own towers and tokenizer are open_clip's, to the last rounding."""

from __future__ import annotations

import subprocess
import sys

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmamba.clip import Clip
from clipmamba.clip.loading import MINI_FOLDER
from clipmamba.clip.tokenizer import Tokenizer
from clipmamba.clip.towers import MiniTowers

LENGTH = 32
TEXTS = [
    "ukiyo-e",
    "It's a painter's   DREAM, isn't it?",
    "浮世絵 und Ölgemälde",
    "caf&eacute; &amp;amp; bar",
    "sÃ©pia photo",  # encoded twice: mended
    "1990s 16-bit pixel art!!!",
    "<start_of_text> in a prompt <end_of_text>",
    "word " * 60,
    "🎨 emoji\tand\nlines",
    "x",
]


@pytest.fixture(scope="module")
def plain() -> torch.nn.Module:
    return open_clip.create_model(f"local-dir:{MINI_FOLDER}", require_pretrained=True).eval()


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.from_pretrained()


@pytest.fixture(scope="module")
def tokenizers() -> tuple[Tokenizer, open_clip.SimpleTokenizer]:
    return Tokenizer(LENGTH), open_clip.SimpleTokenizer(context_length=LENGTH)


def test_mini_runs_in_our_own_towers(clip: Clip) -> None:
    assert isinstance(clip.model, MiniTowers)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_open_clip(tokenizers, text: str) -> None:
    ours, theirs = tokenizers
    assert ours.encode(text) == theirs.encode(text)
    assert torch.equal(ours([text]), theirs([text]))


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_tokens_of_any_text_are_those_of_open_clip(text: str) -> None:
    ours, theirs = Tokenizer(LENGTH), _theirs
    assert ours.encode(text) == theirs.encode(text)


_theirs = open_clip.SimpleTokenizer(context_length=LENGTH)


def test_tokens_are_read_back(tokenizers) -> None:
    ours, theirs = tokenizers
    ids = theirs.encode("a café, 浮世絵 and its print's edge")
    assert ours.decode(ids) == theirs.decode(ids)


@torch.no_grad()
def test_texts_lie_where_open_clip_puts_them(clip: Clip, plain) -> None:
    tokens = open_clip.SimpleTokenizer(context_length=LENGTH)(TEXTS)
    torch.testing.assert_close(
        clip.model.encode_text(tokens), plain.encode_text(tokens), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("size", [(224, 224), (225, 111), (32, 64)])
def test_pictures_lie_where_open_clip_puts_them(clip: Clip, plain, size) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        clip.model.encode_image(images), plain.encode_image(images), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_a_picture_is_preprocessed_as_before(clip: Clip, plain) -> None:
    for key, value in plain.visual.preprocess_cfg.items():
        if key == "size":
            assert clip.image_size == (value if isinstance(value, int) else max(value))
        elif key in clip._preprocess_config:
            assert clip._preprocess_config[key] == pytest.approx(value)


def test_mini_needs_neither_open_clip_nor_timm() -> None:
    code = (
        "import sys, torch\nfrom clipmamba.clip import Clip\nclip = Clip.from_pretrained()\n"
        "clip.encode_text('浮世絵')\nclip.encode_image(torch.rand(1, 3, 40, 50))\n"
        "print({'open_clip', 'timm', 'torchvision', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
