from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clipmamba.clip import Clip, encode_picture, encode_prompt
from clipmamba.errors import InputError, WeightsError
from clipmamba.styles import Style, StylePrior


@pytest.fixture(scope="session")
def clip(tiny_clip_folder: Path) -> Clip:
    return Clip.from_pretrained(str(tiny_clip_folder))


def random_style(seed: int, **options) -> Style:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    return Style(vector, f"style {seed}", **options)


def test_text_and_image_are_the_embeddings(clip: Clip) -> None:
    text = Style.text(" fresco ", clip)
    torch.testing.assert_close(text.embedding, encode_prompt(clip, " fresco ")[0])
    assert (text.label, text.clip, text.weight) == ("fresco", clip.name, 1.0)
    pictures = torch.rand(2, 3, 40, 30)
    torch.testing.assert_close(
        Style.image(pictures[0], clip).embedding, encode_picture(clip, pictures[:1])[0]
    )
    both = Style.image(pictures, clip)
    mean = encode_picture(clip, pictures).mean(0)
    torch.testing.assert_close(both.embedding, mean / mean.norm())


def test_a_movement_is_read_as_its_master(clip: Clip) -> None:
    masters = {"ukiyo-e": "hokusai", "Baroque painting": "rembrandt", "cubism": "cubism"}
    for words, master in masters.items():
        torch.testing.assert_close(
            Style.text(words, clip).embedding, encode_prompt(clip, master)[0]
        )


def test_an_alias_is_its_style(clip: Clip) -> None:
    assert torch.equal(Style.text("ukiyoe", clip).embedding, Style.text("ukiyo-e", clip).embedding)
    assert not torch.equal(
        Style.text("a cat", clip).embedding, Style.text("ukiyo-e", clip).embedding
    )


def test_another_clips_prior_is_refused_with_the_default_clip() -> None:
    prior = StylePrior.load()
    prior.clip_name = "other/clip"
    with pytest.raises(WeightsError, match="belongs to CLIP 'other/clip'"):
        Style.text("fresco", prior=prior)


def test_seed_goes_through_the_prior(clip: Clip) -> None:
    eye = torch.eye(16)
    prior = StylePrior(eye, torch.zeros(16), eye[:3], torch.full((3,), 0.2), clip.name)
    plain = Style.text("fresco", clip, prior)
    variant = Style.text("fresco", clip, prior, seed=3)
    torch.testing.assert_close(plain.embedding, Style.text("fresco", clip).embedding)
    assert not torch.allclose(plain.embedding, variant.embedding)
    with pytest.raises(InputError, match="seed"):
        Style.text("fresco", clip, seed=3)
    other = StylePrior(eye, torch.zeros(16), eye[:3], torch.ones(3), "another")
    with pytest.raises(WeightsError, match="another"):
        Style.text("fresco", clip, other)


def test_mix_is_the_weighted_sum() -> None:
    a, b, c = (random_style(i) for i in range(3))
    mix = 0.7 * a + b * 0.3
    expected = 0.7 * a.embedding + 0.3 * b.embedding
    torch.testing.assert_close(mix.embedding, expected / expected.norm())
    assert mix.label == "0.7 style 0 + 0.3 style 1"
    # A mix of mixes is the mix of all, whatever the order.
    left, right = (mix + 0.5 * c).embedding, (0.7 * a + (0.3 * b + 0.5 * c)).embedding
    torch.testing.assert_close(left, right)
    torch.testing.assert_close((0.5 * (a + b)).embedding, (a + b).embedding)
    away = a + -0.5 * b
    assert away.embedding @ b.embedding < a.embedding @ b.embedding
    torch.testing.assert_close((a + 0.0 * b).embedding, a.embedding)


def test_mix_errors() -> None:
    a = random_style(0, clip="mini")
    with pytest.raises(InputError, match="cancel"):
        _ = a + -1.0 * a
    with pytest.raises(InputError, match="different CLIP models"):
        _ = a + random_style(1, clip="other")
    with pytest.raises(InputError, match="different CLIP models"):
        _ = a + Style(torch.ones(8))
    with pytest.raises(InputError, match="finite"):
        _ = float("nan") * a
    with pytest.raises(TypeError):
        _ = a + 1


@pytest.mark.parametrize("vector", [torch.zeros(4), torch.ones(2, 2), torch.tensor([1, torch.nan])])
def test_not_a_point(vector: torch.Tensor) -> None:
    with pytest.raises(InputError, match="finite vector"):
        Style(vector)


def test_save_and_load(tmp_path: Path) -> None:
    style = random_style(0, clip="mini") + 0.3 * random_style(1)
    style.save(tmp_path / "mix.safetensors")
    loaded = Style.load(tmp_path / "mix.safetensors")
    torch.testing.assert_close(loaded.embedding, style.embedding)
    assert (loaded.label, loaded.clip, loaded.weight) == (style.label, "mini", style.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["mix.safetensors"]


def test_load_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    with pytest.raises(WeightsError, match="no file"):
        Style.load(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="can't be read"):
        Style.load(path)
    save_file({"embedding": torch.ones(4), "more": torch.ones(4)}, path)
    with pytest.raises(WeightsError, match="more"):
        Style.load(path)
    save_file({"embedding": torch.ones(4)}, path)
    with pytest.raises(WeightsError, match="not a style"):
        Style.load(path)
    save_file({"embedding": torch.zeros(4)}, path, {"format": "clipmamba.style.v1"})
    with pytest.raises(WeightsError, match="an incomplete style"):
        Style.load(path)


def test_a_picture_may_be_a_file_an_image_or_a_tensor(tmp_path, tiny_clip_folder, photo):
    clip = Clip.from_pretrained(str(tiny_clip_folder))
    photo = photo.point(lambda level: 60 + level // 2)  # a dark edge would be cropped
    photo.save(tmp_path / "photo.png")
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
    styles = [Style.image(picture, clip) for picture in (tmp_path / "photo.png", photo, pixels)]
    for style in styles[1:]:
        assert torch.allclose(style.embedding, styles[0].embedding, atol=1e-5)
    with pytest.raises(InputError, match="no such file"):
        Style.image(tmp_path / "missing.png", clip)


def test_a_pictures_black_bars_are_not_its_style(clip: Clip, photo: Image.Image) -> None:
    still = photo.resize((96, 64))
    letterbox = Image.new("RGB", (96, 80))
    letterbox.paste(still, (0, 8))
    inside = still.crop((0, 2, 96, 62))  # without the lines beside the bars
    expected = Style.image(inside, clip).embedding
    assert torch.allclose(Style.image(letterbox, clip).embedding, expected, atol=1e-5)


@pytest.mark.parametrize("side", range(3, 16))
def test_something_is_left_of_a_tiny_picture_in_a_black_frame(clip: Clip, side: int) -> None:
    framed = Image.new("RGB", (side, side))
    framed.paste((200, 120, 40), (1, 1, side - 1, side - 1))
    assert torch.isfinite(Style.image(framed, clip).embedding).all()
