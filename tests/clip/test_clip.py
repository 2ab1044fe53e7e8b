from __future__ import annotations

import warnings

import pytest
import torch

from clipmamba.clip import Clip
from clipmamba.errors import InputError

LONG = "a picture of many small boats on a wide and very stormy grey sea"


def rows_are_unit(embeddings: torch.Tensor) -> bool:
    return torch.allclose(embeddings.norm(dim=-1), torch.ones(len(embeddings)), atol=1e-5)


def test_unit_rows(clip: Clip) -> None:
    text = clip.encode_text(["ukiyo-e", "baroque painting"])
    image = clip.encode_image(torch.rand(3, 3, 40, 55))
    assert text.shape == (2, 16)
    assert image.shape == (3, 16)
    assert rows_are_unit(text)
    assert rows_are_unit(image)
    assert torch.equal(clip.encode_text("ukiyo-e"), clip.encode_text(["ukiyo-e"]))


def test_batch_equals_singles(clip: Clip) -> None:
    prompts = ["ukiyo-e", "a very long name for cubism", "x"]
    singles = torch.cat([clip.encode_text(p) for p in prompts])
    torch.testing.assert_close(clip.encode_text(prompts), singles)
    images = torch.rand(3, 3, 50, 41)
    singles = torch.cat([clip.encode_image(i[None]) for i in images])
    torch.testing.assert_close(clip.encode_image(images), singles)


def test_gradient_reaches_the_pixels(clip: Clip) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(1, 3, 45, 64, generator=generator)
    images.requires_grad_()
    target = clip.encode_text("ukiyo-e")[0]

    def score(x: torch.Tensor) -> torch.Tensor:
        return (clip.encode_image(x) @ target).sum()

    (gradient,) = torch.autograd.grad(score(images), images)
    direction = gradient.sign()
    step = 2e-3
    with torch.no_grad():
        measured = (score(images + step * direction) - score(images - step * direction)) / 2 / step
    torch.testing.assert_close((gradient * direction).sum(), measured, rtol=0.02, atol=1e-4)
    assert all(p.grad is None and not p.requires_grad for p in clip.parameters())


def test_overshoot_keeps_its_gradient(clip: Clip) -> None:
    images = torch.full((1, 3, 64, 64), 1.2, requires_grad=True)
    clip.preprocess(images).sum().backward()
    assert images.grad is not None
    assert (images.grad[..., 8:-8, 8:-8] > 0).all()


def test_text_carries_no_gradient_and_can_meet_one(clip: Clip) -> None:
    text = clip.encode_text("ukiyo-e")
    assert not text.requires_grad
    scale = torch.ones(1, requires_grad=True)
    (text * scale).sum().backward()  # not an inference tensor
    assert scale.grad is not None


def test_stays_in_evaluation_mode(clip: Clip) -> None:
    parent = torch.nn.Sequential(clip)
    parent.train()
    assert not any(module.training for module in clip.modules())


def test_long_prompt_warns_once_and_says_what_is_cut(clip: Clip) -> None:
    with pytest.warns(UserWarning, match=r"has 14 tokens .* reads 10; not read: 'very stormy") as w:
        cut = clip.encode_text([LONG, LONG])
    assert len(w) == 1
    assert w[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = clip.encode_text(LONG)
        clip.encode_text("short")
    torch.testing.assert_close(cut[:1], again)
    torch.testing.assert_close(again, clip.encode_text(LONG.split(" very stormy")[0]))


def test_context_counts_start_and_end(clip: Clip) -> None:
    assert clip.count_tokens("one two") == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_text(" ".join(["one"] * 10))
    with pytest.warns(UserWarning, match="not read: 'one'"):
        clip.encode_text(" ".join(["one"] * 11))


@pytest.mark.parametrize("prompts", ["", "  ", [], ["ukiyo-e", ""]])
def test_empty_prompt(clip: Clip, prompts: str | list[str]) -> None:
    with pytest.raises(InputError, match="empty"):
        clip.encode_text(prompts)


@pytest.mark.parametrize(
    "images",
    [torch.rand(3, 8, 8), torch.rand(1, 4, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)],
)
def test_wrong_images(clip: Clip, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="float tensor"):
        clip.encode_image(images)


def test_works_under_autocast(clip: Clip) -> None:
    images = torch.rand(2, 3, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = clip.encode_image(images)
    assert mixed.dtype == torch.float32
    assert rows_are_unit(mixed)
    assert ((mixed * clip.encode_image(images)).sum(-1) > 0.99).all()
