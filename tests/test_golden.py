"""The shipped weights make the pictures that they made before: a change is seen and decided.

Points and pictures from tensors are held tightly, for rounding alone; a picture through a file
loosely, by a level of 255.
"""

from __future__ import annotations

import pytest
import torch
from golden import FILE, compute
from safetensors.torch import load_file

LEVEL = 65535


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    expected, found = load_file(FILE), compute()
    assert set(expected) == set(found)
    return {name: (found[name].float(), expected[name].float()) for name in expected}


def test_the_golden_file_is_small() -> None:
    assert FILE.stat().st_size < 200_000


def test_tokens_are_the_same(pairs) -> None:
    found, expected = pairs["tokens"]
    assert torch.equal(found, expected)


def test_points_are_the_same_but_for_rounding(pairs) -> None:
    for name in pairs:
        if "point" in name:
            torch.testing.assert_close(*pairs[name], atol=2e-6, rtol=0, msg=name)


def test_pictures_from_tensors_are_the_same_but_for_rounding(pairs) -> None:
    for name in pairs:
        if "picture" in name:
            found, expected = (values / LEVEL for values in pairs[name])
            error = (found - expected).square().mean().sqrt()
            assert error <= 2e-5, name  # of the file's own rounding, 4e-6, and the network's


def test_a_picture_through_a_file_is_the_same_but_for_a_level(pairs) -> None:
    found, expected = pairs["decoded file"]
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 0.01
