"""How many of the tokens so far to continue from, so that the texts meet.

A worker holds back the bytes of an incomplete character, so the client's text may end before the
text of the tokens. The next worker begins with whole characters: tokens at whose end a
character is incomplete are dropped (it computes them again), and complete text that was held back
is told at once.
"""

from __future__ import annotations

MAX_DROPPED = 8
"""A character of UTF-8 has four bytes; more tokens without a character are broken text."""
NUM_CONTEXT = 5
"""Prompt tokens decoded in front where the first token's text depends on what is before it: a
tokenizer of the SentencePiece family drops the first blank of a text. (vLLM takes as many.)"""
REPLACEMENT = "\ufffd"


class Alignment:
    """Steps: turn `to_detokenize` into text, `answer` with it, until it is None."""

    def __init__(self, prompt_token_ids: list[int], token_ids: list[int], told: str) -> None:
        self._told = told
        self._token_ids = token_ids
        self._context: list[int] = []
        self._spare_context = prompt_token_ids[-NUM_CONTEXT:]
        self._base: str | None = ""
        """Text of the context; None while it is asked for."""
        self._wants_call = bool(token_ids)
        self.num_kept = len(token_ids)
        """Tokens to continue from."""
        self.rest = ""
        """Text of those that the client has not got."""
        self.skip = ""
        """Text that the client has got and that will come again."""
        self.failure = "" if token_ids or not told else "text without tokens"
        """Why no number of tokens fits; replay instead."""
        if token_ids and not told:
            self._use_context()  # nothing to compare the first blank with

    @property
    def to_detokenize(self) -> list[int] | None:
        """Token ids whose text is needed; None: done, or failed."""
        if not self._wants_call or self.failure:
            return None
        if self._base is None:
            return self._context
        return self._context + self._token_ids[: self.num_kept]

    def answer(self, text: str) -> None:
        """Take in the text of `to_detokenize`."""
        if self._base is None:
            self._base = text
            return
        if not text.startswith(self._base):
            self.failure = "the text of the prompt changes with what follows"
            return
        self._compare(text[len(self._base) :])

    def _compare(self, text: str) -> None:
        told = self._told
        if text.startswith(told):
            if text.endswith(REPLACEMENT) and len(text) > len(told):
                self._drop()
            else:
                self.rest = text[len(told) :]
                self._wants_call = False
        elif told.startswith(text):
            if text.endswith(REPLACEMENT):
                self._drop()
            else:
                self.skip = told[len(text) :]
                self._wants_call = False
        elif self._spare_context:
            self._use_context()
        else:
            self.failure = "the text is not that of the tokens"

    def _use_context(self) -> None:
        self._context, self._spare_context = self._spare_context, []
        self._base = None if self._context else ""
        self.num_kept = len(self._token_ids)

    def _drop(self) -> None:
        self.num_kept -= 1
        if len(self._token_ids) - self.num_kept > MAX_DROPPED:
            self.failure = f"no whole character in the last {MAX_DROPPED} tokens"
        elif self.num_kept == 0:
            self.skip = self._told
            self._wants_call = False
