"""Wire fields to `SamplingParams`, and the refusal of what we cannot do yet."""

from __future__ import annotations

from shoal.errors import InvalidRequest
from shoal.openai.fields import GenerationFields

from ..core.sampling_params import SamplingParams

# Wire names equal field names; null on the wire leaves the default.
_COPIED = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "logit_bias", "seed", "min_tokens", "ignore_eos",
    "include_stop_str_in_output", "skip_special_tokens",
)  # fmt: skip

MAX_STOP_STRINGS = 64
"""Each is looked for after every token, on the event loop that all streams share."""

_STRUCTURED_OUTPUT = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip


def to_sampling_params(
    body: GenerationFields,
    *,
    max_tokens: int,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    """The sampling rules of a body. Raises InvalidRequest naming the field and its range."""
    refuse_unsupported(body)
    fields = {name: getattr(body, name) for name in _COPIED if getattr(body, name) is not None}
    if body.top_k == -1:
        fields["top_k"] = 0  # both mean all tokens: -1 in vLLM's words, 0 in ours
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > MAX_STOP_STRINGS:
        raise InvalidRequest(
            f"stop has {len(stop)} strings; the limit is {MAX_STOP_STRINGS}.", param="stop"
        )
    output_offset = body.shoal_output_offset or 0
    if output_offset < 0:
        raise InvalidRequest(
            f"shoal_output_offset must be 0 or more, got {output_offset}.",
            param="shoal_output_offset",
        )
    try:
        return SamplingParams(
            **fields,
            output_offset=output_offset,
            max_tokens=max_tokens,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            stop=tuple(stop),
            stop_token_ids=tuple(body.stop_token_ids or ()),
        )
    except ValueError as error:
        message = str(error)
        # SamplingParams begins its messages with the name of the field.
        raise InvalidRequest(f"{message}.", param=message.split(" ", 1)[0]) from error


def resolve_num_choices(n: int | None, *, num_prompts: int, max_choices: int) -> int:
    """Choices per prompt. Raises InvalidRequest when they are none, or too many in all."""
    per_prompt = 1 if n is None else n
    if per_prompt < 1:
        raise InvalidRequest(f"n must be at least 1, got {per_prompt}.", param="n")
    if per_prompt * num_prompts > max_choices:
        raise InvalidRequest(
            f"{num_prompts} prompts with n={per_prompt} are {per_prompt * num_prompts} choices;"
            f" the limit is {max_choices} in one request. Send several requests.",
            param="n",
        )
    return per_prompt


def refuse_unsupported(body: GenerationFields) -> None:
    """Raises InvalidRequest for a field that would change the answer if we had it."""
    kind = (body.response_format or {}).get("type", "text")
    if kind != "text":
        raise _not_yet("response_format", f"response_format of type {kind!r}")
    for name in _STRUCTURED_OUTPUT:
        if getattr(body, name) is not None:
            raise _not_yet(name, name)


def _not_yet(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} is not supported yet; leave it out and ask for the format in the prompt.",
        param=param,
        code="unsupported_parameter",
    )


def resolve_max_tokens(
    wanted: int | None,
    *,
    default: int | None,
    num_prompt_tokens: int,
    max_model_len: int,
    param: str,
) -> int:
    """How many tokens may be generated; `default` None is the rest of the context.

    Raises InvalidRequest with the numbers when the prompt, or prompt and `wanted`, do not fit.
    """
    room = max_model_len - num_prompt_tokens
    if room < 1:
        raise InvalidRequest(
            f"The prompt has {num_prompt_tokens} tokens; with one token to generate that is more"
            f" than the model's context of {max_model_len} tokens. Shorten the prompt.",
            param="prompt",
            code="context_length_exceeded",
        )
    if wanted is None:
        return room if default is None else min(default, room)
    if wanted > room:
        raise InvalidRequest(
            f"The prompt has {num_prompt_tokens} tokens and {param} is {wanted}: together"
            f" {num_prompt_tokens + wanted}, more than the model's context of {max_model_len}"
            f" tokens. At most {room} can be generated.",
            param=param,
            code="context_length_exceeded",
        )
    return wanted
