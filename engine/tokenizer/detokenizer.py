"""Turns a stream of token ids into a stream of text, a few hundred nanoseconds per token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .tokenizer import Tokenizer

_UTF8 = codecs.getincrementaldecoder("utf-8")
_LONGEST_UTF8 = 4


class IncrementalDetokenizer:
    """Decodes one request's output as it grows.

    Each token is decoded once: its bytes go through an incremental UTF-8 decoder, which holds
    back an incomplete character until the tokens that complete it arrive. The concatenation of
    all `append` results and `finish` is what `Tokenizer.decode` says of the whole output, in
    its place after the prompt.
    """

    __slots__ = ("_at_start", "_skipped", "_tokenizer", "_utf8")

    def __init__(
        self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int], *, skip_special_tokens: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset()
        self._utf8 = _UTF8(errors="replace")
        self._at_start = tokenizer.strips_leading_space
        self._continue_prompt(prompt_token_ids)

    def append(self, token_ids: Sequence[int]) -> str:
        """The text that `token_ids` complete; "" while a character is still incomplete."""
        token_bytes, skipped = self._tokenizer.token_bytes, self._skipped
        data = b"".join([token_bytes(i) for i in token_ids if i not in skipped])
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._utf8.decode(data)

    def finish(self) -> str:
        """What was held back: U+FFFD for a character that never became complete, or ""."""
        return self._utf8.decode(b"", final=True)

    def _continue_prompt(self, prompt_token_ids: Sequence[int]) -> None:
        """A prompt may end within a character: the output's first bytes then complete it."""
        tail = b""
        for token_id in reversed(prompt_token_ids):
            if token_id in self._skipped:
                continue
            tail = self._tokenizer.token_bytes(token_id) + tail
            if len(tail) >= _LONGEST_UTF8:
                break
        if tail:
            self._at_start = False
            self._utf8.decode(tail)
