from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F

from clipmamba.clip import TEMPLATES, Clip, encode_prompt
from clipmamba.errors import InputError


def test_is_the_renormalised_mean(clip: Clip) -> None:
    templates = ("{}", "{} style")
    rows = clip.encode_text(["fresco", "fresco style"])
    expected = F.normalize(rows.mean(0, keepdim=True), dim=-1)
    torch.testing.assert_close(encode_prompt(clip, "fresco", templates), expected)


def test_several_prompts_equal_singles(clip: Clip) -> None:
    prompts = ["fresco", "a rather long prompt about cubism", "{}"]
    singles = torch.cat([encode_prompt(clip, p) for p in prompts])
    torch.testing.assert_close(encode_prompt(clip, prompts), singles)


def test_templates_never_cut_the_prompt(clip: Clip) -> None:
    prompt = "one two three four five six seven eight nine ten"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(encode_prompt(clip, prompt), clip.encode_text(prompt))
    with pytest.warns(UserWarning, match="not read") as caught:
        encode_prompt(clip, prompt + " fresco eleven")
    assert len(caught) == 1


def test_bad_input(clip: Clip) -> None:
    with pytest.raises(InputError, match="empty"):
        encode_prompt(clip, " ")
    with pytest.raises(InputError, match="template"):
        encode_prompt(clip, "fresco", ["no place"])
    assert all("{}" in template for template in TEMPLATES)
