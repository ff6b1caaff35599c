"""The fields that completions and chat completions share: sampling, stopping, streaming."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What the engine's own wire format can carry."""
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class StreamOptions(msgspec.Struct, kw_only=True):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    """One more chunk at the end, with `usage` and no choices."""
    continuous_usage_stats: bool | None = None
    """`usage` so far in every chunk (vLLM)."""


class GenerationFields(msgspec.Struct, kw_only=True):
    """Shared part of a request body. `null` means the default, as OpenAI has it."""

    model: str | None = None
    max_tokens: Int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: Int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: Int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[TokenId, float] | None = None
    user: str | None = None

    # vLLM's extras.
    top_k: Int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Int | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: Int | None = None
    add_special_tokens: bool | None = None
    priority: Int | None = None
    cache_salt: str | None = None
    return_token_ids: bool | None = None

    # Shoal's own.
    shoal_output_offset: Int | None = None
    """So many of the prompt's last tokens are the beginning of the answer (docs/failover.md)."""

    # Known but not done yet: read only to refuse them, since ignoring them would change the answer.
    response_format: dict[str, Any] | None = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
