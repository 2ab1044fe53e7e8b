from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipmamba.errors import InputError
from clipmamba.models import Stylizer
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.train.stylizer.start import start_stylizer

SIZE = {"widths": (8, 8, 8), "depth": 1, "code_dim": 16}


@pytest.fixture
def spoken(prepared: Prepared) -> Prepared:
    """Prepared words for both painters and one look."""
    words = F.normalize(torch.randn(3, 16), dim=1)
    looks = torch.full_like(prepared.looks, -1)
    looks[2] = 0
    return dataclasses.replace(prepared, looks=looks, words=words, meant=torch.tensor([-1, -2, 0]))


def test_a_new_stylizer_reads_the_prepared_embeddings(spoken: Prepared):
    made = start_stylizer(spoken, None, **SIZE)
    assert (made.config.style_dim, made.config.clip) == (16, spoken.clip)
    assert made.config.anchors == 0


@pytest.mark.parametrize(("painters", "count"), [(None, 3), (("no such",), 1), ((), 1)])
def test_anchors_are_added_once(spoken: Prepared, tmp_path: Path, painters, count: int):
    Stylizer(16, spoken.clip, noise_scale=0.5, **SIZE).save_pretrained(tmp_path)
    first = start_stylizer(spoken, tmp_path, painters=painters, anchors=True)
    assert first.config.anchors == count
    assert first.config.noise_scale == 1  # training decides how much noise each style needs
    first.save_pretrained(tmp_path)
    assert start_stylizer(spoken, tmp_path, anchors=True).config.anchors == count


def test_a_stylizer_that_does_not_fit_is_refused(spoken: Prepared, tmp_path: Path):
    Stylizer(16, "another", **SIZE).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="--clip another"):
        start_stylizer(spoken, tmp_path)
    with pytest.raises(InputError, match="--mixer and --depth belong to a new stylizer"):
        start_stylizer(spoken, tmp_path, mixer="conv", depth=1)
