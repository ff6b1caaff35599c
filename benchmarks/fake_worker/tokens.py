"""A stand-in for a tokenizer and for a model's choice: pure functions of text and tokens.

A word with the blank before it is one token, so is a run of other signs. Token k of an answer is a
function of all tokens before it: a request that ends here and continues elsewhere, as prompt plus
the answer so far, gets exactly the words that were missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from zlib import crc32

from shoal.benchmarks.workload.words import CANDIDATE_WORDS

VOCABULARY = 50_000
ANSWER_PIECES = tuple(f" {word}" for word in CANDIDATE_WORDS)
_ID_OF = {piece: index for index, piece in enumerate(ANSWER_PIECES)}
_PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")
_MASK = (1 << 64) - 1


def encode(text: str) -> list[int]:
    """Token ids of a text, in [0, 50,000); words that answers are made of have ids of their own."""
    first_other = len(ANSWER_PIECES)
    return [
        _ID_OF[piece]
        if piece in _ID_OF
        else first_other + crc32(piece.encode()) % (VOCABULARY - first_other)
        for piece in _PIECE.findall(text)
    ]


def decode(token_ids: Iterable[int]) -> str:
    """Text of answer tokens; others, whose text is not kept, become ` ?`."""
    return "".join(ANSWER_PIECES[i] if i < len(ANSWER_PIECES) else " ?" for i in token_ids)


def render_chat(messages: Sequence[tuple[str, str]]) -> str:
    """(role, content) pairs as one prompt, ready for the answer."""
    return "".join(f"<|{role}|>{content}\n" for role, content in messages) + "<|assistant|>"


def digest(token_ids: Iterable[int], seed: int = 0) -> int:
    """What the next token depends on: a hash of the tokens so far, extended one by one.

    The multiplier is FNV-1a's prime (Fowler, Noll, Vo).
    """
    state = seed ^ 0xCBF29CE484222325
    for token_id in token_ids:
        state = ((state ^ token_id) * 0x100000001B3) & _MASK
    return state


def extend(state: int, token_id: int) -> int:
    """The digest with one more token."""
    return ((state ^ token_id) * 0x100000001B3) & _MASK


def next_token(state: int) -> int:
    """The token that follows: an index into ANSWER_PIECES."""
    return (state >> 20) % len(ANSWER_PIECES)
