"""Token counts of an answer."""

from __future__ import annotations

import msgspec


class PromptTokensDetails(msgspec.Struct):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int = 0


class Usage(msgspec.Struct):
    """Tokens of all prompts and all choices of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
