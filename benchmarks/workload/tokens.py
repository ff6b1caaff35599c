"""Prompts with an exact number of tokens, from words that are one token each."""

from __future__ import annotations

import random

import msgspec

from shoal.errors import ConfigError

from .plan import Prompt


class TokenPool(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's tokenizer is known to do."""

    words: list[str]
    """Each is exactly one token when a blank stands before it."""
    token_ids: list[int]
    """Of the words, in their order; empty when the server would not tell."""
    overhead: int = 0
    """Tokens the server adds to every text prompt, such as a beginning of sequence."""
    exact: bool = True
    """False: nobody could be asked, the words are merely likely to be one token."""


class PromptWriter:
    """Writes random prompts of so many tokens."""

    def __init__(self, pool: TokenPool, *, as_token_ids: bool = False) -> None:
        if not pool.words:
            raise ConfigError("there are no words to write prompts with")
        if as_token_ids and not pool.token_ids:
            raise ConfigError(
                "prompts of token ids need the server's tokenizer, and it has no /tokenize route"
            )
        self._pieces = [" " + word for word in pool.words]
        self._token_ids = pool.token_ids
        self._as_token_ids = as_token_ids
        self.overhead = 0 if as_token_ids else pool.overhead

    def counted(self, num_tokens: int) -> int:
        """What the server counts when a prompt of `num_tokens` is asked for: no prompt is shorter
        than what the server adds and one token of our own."""
        return max(num_tokens, self.overhead + 1)

    def text(self, rng: random.Random, num_tokens: int) -> str:
        """A part of a prompt: exactly `num_tokens` tokens, what the server adds not counted."""
        return "".join(rng.choices(self._pieces, k=max(0, num_tokens)))

    def prompt(
        self, rng: random.Random, num_tokens: int, *, prefix: Prompt | None = None
    ) -> Prompt:
        """A whole prompt that the server counts as `counted(num_tokens)` (and the prefix's, if
        any): what the server adds is taken off."""
        own = self.counted(num_tokens) - self.overhead
        if self._as_token_ids:
            ids = rng.choices(self._token_ids, k=own)
            return [*prefix, *ids] if isinstance(prefix, list) else ids
        return (prefix if isinstance(prefix, str) else "") + self.text(rng, own)

    def prefix(self, rng: random.Random, num_tokens: int) -> Prompt:
        """The beginning that several prompts share."""
        if self._as_token_ids:
            return rng.choices(self._token_ids, k=num_tokens)
        return self.text(rng, num_tokens)
