"""CLIP's byte-pair tokenizer, without importing open_clip, whose vocabulary file it reads."""

from __future__ import annotations

import functools
import gzip
import html
import itertools
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipmamba.errors import WeightsError

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2
_START, _END = "<start_of_text>", "<end_of_text>"
_WORD_END = "</w>"


class Tokenizer:
    """Turns texts into the same ids as open_clip's `SimpleTokenizer`.

    Args:
        context_length: Tokens per text, start and end included.

    Raises:
        WeightsError: The vocabulary file is not where open_clip keeps it.
    """

    def __init__(self, context_length: int):
        self.context_length = context_length
        self._ranks, self._ids = _vocabulary()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Ids (B, context_length), int64: start, tokens, end, zeros; long texts are cut."""
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [self._ids[_START], *self.encode(text)][: self.context_length - 1]
            row[: len(ids) + 1] = torch.tensor([*ids, self._ids[_END]])
        return rows

    def encode(self, text: str) -> list[int]:
        """Ids of a text's own tokens."""
        byte_letters = _byte_letters()
        ids = []
        for word in _pattern().findall(_clean(text)):
            if word in (_START, _END):
                ids.append(self._ids[word])
                continue
            letters = [byte_letters[byte] for byte in word.encode("utf-8")]
            letters[-1] += _WORD_END
            ids += [self._ids[token] for token in self._merge(letters)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The words of some ids, separated by spaces."""
        tokens = {number: token for token, number in self._ids.items()}
        bytes_of = {letter: byte for byte, letter in _byte_letters().items()}
        text = "".join(tokens[number] for number in ids).replace(_WORD_END, " ")
        data = b"".join(bytes([bytes_of[c]]) if c in bytes_of else c.encode() for c in text)
        return data.decode("utf-8", "replace")

    def _merge(self, parts: list[str]) -> list[str]:
        """Join neighbours, the pair of the lowest rank first, until no pair is known."""
        while len(parts) > 1:
            pairs = [f"{first} {second}" for first, second in itertools.pairwise(parts)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, _MERGES))
            if best not in self._ranks:
                break
            joined, place = [], 0
            while place < len(parts):
                here = place < len(pairs) and pairs[place] == best
                joined.append(parts[place] + parts[place + 1] if here else parts[place])
                place += 2 if here else 1
            parts = joined
        return parts


@functools.cache
def _vocabulary() -> tuple[dict[str, int], dict[str, int]]:
    """Ranks of the pairs to merge ("a b"), and the id of every token."""
    spec = find_spec("open_clip")  # finds the folder, imports nothing
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0]) / _VOCABULARY if folders else Path(_VOCABULARY)
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            pairs = lines.read().split("\n")[1 : _MERGES + 1]
    except OSError as error:
        raise WeightsError(
            f"can't read CLIP's vocabulary {file}: {error.strerror or error}; "
            "run: pip install open-clip-torch"
        ) from error
    letters = list(_byte_letters().values())
    tokens = [*letters, *(letter + _WORD_END for letter in letters)]
    tokens += [pair.replace(" ", "") for pair in pairs]
    ids = {token: number for number, token in enumerate([*tokens, _START, _END])}
    return {pair: rank for rank, pair in enumerate(pairs)}, ids


@functools.cache
def _byte_letters() -> dict[int, str]:
    """A visible letter for each byte: itself where it is one, else one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(256 + place) for place, byte in enumerate(hidden)
    }


@functools.cache
def _pattern() -> Any:
    import regex

    words = rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"
    return regex.compile(words, regex.IGNORECASE)


def _clean(text: str) -> str:
    """Mended encoding, no HTML entities, single spaces, lower case."""
    if not re.fullmatch(r"[ -%'-~]*", text):  # nothing to mend in plain ASCII without &
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()
