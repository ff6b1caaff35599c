"""`/v1/completions`: request, response and stream chunk."""

from __future__ import annotations

from typing import Any

import msgspec

from .fields import GenerationFields, Int, TokenId
from .usage import Usage


class CompletionRequest(GenerationFields, kw_only=True):
    """Body of a completion. Mixed lists (texts with ids) are refused by the server."""

    prompt: str | list[str | TokenId | list[TokenId]]
    """A text, texts, one list of token ids, or lists of token ids."""
    logprobs: Int | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Int | None = None


class CompletionLogprobs(msgspec.Struct):
    """Column-wise log-probabilities; the first token of an echoed prompt has None."""

    text_offset: list[int] = msgspec.field(default_factory=list)
    """Where each token begins in the text, in characters."""
    token_logprobs: list[float | None] = msgspec.field(default_factory=list)
    tokens: list[str] = msgspec.field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = msgspec.field(default_factory=list)


class CompletionChoice(msgspec.Struct, kw_only=True):
    """One answer, or in a stream the new part of one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """The stop string or stop token id that ended it (vLLM)."""
    prompt_logprobs: list[dict[str, Any] | None] | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    """With `return_token_ids` (vLLM); in a stream once, with the first chunk of a choice."""
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class CompletionResponse(msgspec.Struct, kw_only=True):
    """A whole answer, or one chunk of a stream: both are `text_completion` objects."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType = msgspec.UNSET
