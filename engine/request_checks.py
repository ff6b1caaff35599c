"""What must hold of a request before the core hears of it.

Everything that could make a step fail is refused here, for a failed step ends all requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shoal.errors import InvalidRequest

from .core.sampling_params import SamplingParams


def check_request(
    prompt_token_ids: Sequence[int],
    params: SamplingParams,
    *,
    vocab_size: int,
    max_model_len: int,
) -> None:
    """Raises InvalidRequest naming the field at fault and the numbers."""
    if not prompt_token_ids:
        raise InvalidRequest("The prompt is empty: send at least one token.", param="prompt")
    if len(prompt_token_ids) >= max_model_len:
        raise InvalidRequest(
            f"The prompt has {len(prompt_token_ids)} tokens, but the context of this model is"
            f" {max_model_len} tokens and at least one is needed for the output.",
            param="prompt",
            code="context_length_exceeded",
        )
    if params.output_offset >= len(prompt_token_ids):
        raise InvalidRequest(
            f"shoal_output_offset is {params.output_offset}, but the prompt has"
            f" {len(prompt_token_ids)} tokens, of which at least the first is no output.",
            param="shoal_output_offset",
        )
    _check_token_ids(prompt_token_ids, param="prompt", vocab_size=vocab_size)
    _check_token_ids(params.logit_bias, param="logit_bias", vocab_size=vocab_size)
    _check_token_ids(params.stop_token_ids, param="stop_token_ids", vocab_size=vocab_size)


def _check_token_ids(token_ids: Iterable[int], *, param: str, vocab_size: int) -> None:
    lowest, highest = min(token_ids, default=0), max(token_ids, default=0)
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise InvalidRequest(
            f"{param} names token id {wrong}, but this model's ids go from 0 to {vocab_size - 1}.",
            param=param,
        )
