from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipmamba.clip import VIEWS, Clip, encode_picture
from clipmamba.errors import InputError


def test_is_the_renormalised_mean_of_the_whole_and_its_middle(clip: Clip) -> None:
    images = torch.rand(2, 3, 46, 69)
    middles = images[..., 3:43, 4:64]  # 46 / 1.15 = 40, 69 / 1.15 = 60
    rows = torch.stack([clip.encode_image(images), clip.encode_image(middles)])
    expected = F.normalize(rows.mean(0), dim=-1)
    torch.testing.assert_close(encode_picture(clip, images, (1.0, 1.15)), expected)
    assert not torch.allclose(encode_picture(clip, images), rows[0], atol=1e-4)
    assert VIEWS[0] == 1.0  # the whole picture is always among them


def test_one_view_of_the_whole_is_the_plain_embedding(clip: Clip) -> None:
    images = torch.rand(1, 3, 30, 50)
    torch.testing.assert_close(encode_picture(clip, images, (1.0,)), clip.encode_image(images))


def test_gradient_reaches_the_pixels(clip: Clip) -> None:
    images = torch.rand(1, 3, 46, 46, requires_grad=True)
    encode_picture(clip, images)[0, 0].backward()
    assert images.grad is not None
    assert images.grad[..., 20:26, 20:26].abs().sum() > 0


def test_a_picture_of_one_pixel_has_views(clip: Clip) -> None:
    assert encode_picture(clip, torch.rand(1, 3, 1, 1)).isfinite().all()


def test_bad_input(clip: Clip) -> None:
    for views in ((), (0.5,), (float("nan"),)):
        with pytest.raises(InputError, match="enlargements"):
            encode_picture(clip, torch.rand(1, 3, 8, 8), views)
    with pytest.raises(InputError, match="float tensor"):
        encode_picture(clip, torch.zeros(8, 8))
