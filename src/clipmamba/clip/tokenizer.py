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
_LETTERS = 2 * 256  # tokens of single bytes, within a word and at its end
_SPECIAL = {"<start_of_text>": _LETTERS + _MERGES, "<end_of_text>": _LETTERS + _MERGES + 1}
_START, _END = _SPECIAL.values()
_WORD_END = "</w>"


class Tokenizer:
    """Converts texts to the same token ids as open_clip's `SimpleTokenizer`.

    Args:
        context_length: Tokens per text, start and end included.

    Raises:
        WeightsError: The vocabulary file is not where open_clip keeps it.
    """

    def __init__(self, context_length: int):
        self.context_length = context_length
        self._ranks = _merges()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokenize to ids (B, context_length), int64: start, tokens, end, zeros; may truncate."""
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [_START, *self.encode(text)][: self.context_length - 1]
            row[: len(ids) + 1] = torch.tensor([*ids, _END])
        return rows

    def encode(self, text: str) -> list[int]:
        """Tokenize a text to ids, without start and end."""
        ids = []
        for word in _pattern().findall(_clean(text)):
            ids += [_SPECIAL[word]] if word in _SPECIAL else self._merge(word.encode("utf-8"))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Convert ids back to words, separated by spaces."""
        letters = [*_byte_letters().values()]
        tokens = [*letters, *(letter + _WORD_END for letter in letters)]
        tokens += [pair.replace(" ", "") for pair in self._ranks]
        tokens += [*_SPECIAL]
        bytes_of = {letter: byte for byte, letter in _byte_letters().items()}
        text = "".join(tokens[number] for number in ids).replace(_WORD_END, " ")
        data = b"".join(bytes([bytes_of[c]]) if c in bytes_of else c.encode() for c in text)
        return data.decode("utf-8", "replace")

    def _merge(self, word: bytes) -> list[int]:
        """Merge adjacent tokens, the pair of the lowest rank first, until no pair is known."""
        letters = _byte_letters()
        order = {byte: place for place, byte in enumerate(letters)}
        parts = [letters[byte] for byte in word]
        ids = [order[byte] for byte in word]
        parts[-1] += _WORD_END
        ids[-1] += _LETTERS // 2
        while len(parts) > 1:
            pairs = [f"{first} {second}" for first, second in itertools.pairwise(parts)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, _MERGES))
            if best not in self._ranks:
                break
            place = 0
            while place < len(parts) - 1:
                if f"{parts[place]} {parts[place + 1]}" == best:
                    parts[place : place + 2] = [parts[place] + parts[place + 1]]
                    ids[place : place + 2] = [_LETTERS + self._ranks[best]]
                place += 1
        return ids


@functools.cache
def _merges() -> dict[str, int]:
    """Read the rank of every pair of tokens ("a b") that can be merged."""
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
    return {pair: rank for rank, pair in enumerate(pairs)}


@functools.cache
def _byte_letters() -> dict[int, str]:
    """Map each byte to a visible letter: itself if it is one, else one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(256 + place) for place, byte in enumerate(hidden)
    }


@functools.cache
def _pattern() -> Any:
    import regex

    words = (
        rf"{'|'.join(_SPECIAL)}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"
    )
    return regex.compile(words, regex.IGNORECASE)


def _clean(text: str) -> str:
    """Fix encoding errors, unescape HTML, collapse spaces, and convert to lower case."""
    if not re.fullmatch(r"[ -%'-~]*", text):  # plain ASCII without & needs no fixing
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()
