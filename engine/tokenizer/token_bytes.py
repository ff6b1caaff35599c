"""What bytes a token stands for.

Detokenizing is concatenation of bytes followed by UTF-8 decoding, whatever the vocabulary: that
is what makes it incremental. Two spellings of bytes exist in the Llama family:

- byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM): each byte is written as one printable character;
- SentencePiece (Llama 1 and 2, Mistral): text with U+2581 for a space, `<0xNN>` for a bare byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

TokenToBytes: TypeAlias = Callable[[str], bytes]

_BARE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling: printable Latin-1 stands for itself, the rest follows from U+0100 on.

    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    for byte in sorted(set(range(256)) - set(printable)):
        alphabet[chr(0x100 + len(alphabet) - len(printable))] = byte
    return alphabet


_ALPHABET = _byte_alphabet()


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a byte-level BPE token; text outside the alphabet (added tokens) is itself."""
    try:
        return bytes([_ALPHABET[char] for char in token])
    except KeyError:
        return token.encode()


def sentencepiece_bytes(token: str) -> bytes:
    """Bytes of a SentencePiece token."""
    if bare := _BARE_BYTE.fullmatch(token):
        return bytes([int(bare[1], 16)])
    return token.replace(_SPACE, " ").encode()
