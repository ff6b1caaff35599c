"""Whether a stream can outlive its worker, and by which method: decided before it is sent.

*Continue*: another worker gets prompt + tokens so far as a completion. Costs one prefill; needs
token ids, so the worker is asked for them. Exact where the next token depends on nothing but the
tokens before it: greedy, and seeded on Shoal, whose randomness is a function of seed and position.

*Replay*: another worker gets the same request again, and what the client has is dropped from the
answer after a comparison. Costs the whole decode again; needs only that the same request has
the same answer.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from ..core.types import EngineKind
from ..request_fields import ABSENT, RequestFields, is_given

Method = Literal["continue", "replay"]
Mode = Literal["exact", "any", "off"]

CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_PATH: Final = "/v1/completions"

_GREEDY_BELOW: Final = 1e-5
"""vLLM takes lower temperatures for 0."""
_TOKEN_IDS: Final = frozenset({EngineKind.SHOAL, EngineKind.VLLM})
"""Engines that return token ids, take them as a prompt, and turn them into text."""


class Preparation(NamedTuple):
    """What was decided about one request; kept as long as its stream runs."""

    method: Method | None
    """None: the stream ends with its worker."""
    reason: str
    """Why there is no method, or why it is not `continue`; one phrase for logs and traces."""
    body: bytes
    """What to send to the worker."""
    strip: bool
    """Whether token ids were asked for that the client did not ask for."""
    path: str
    fields: RequestFields
    engine: EngineKind
    mode: Mode

    @property
    def is_chat(self) -> bool:
        return self.path == CHAT_PATH


def prepare(
    path: str, body: bytes, fields: RequestFields, *, engine: EngineKind, mode: Mode
) -> Preparation:
    """Decide for one request; `fields` are `decode_fields(body)`. About 2 us, more only for lists
    of prompts and for requests with rare fields.

    `body` is what the worker is to get, with the model name it knows; it is returned as it is, or
    with `return_token_ids` put before its closing brace, where it wins over one that says false.
    """
    method, reason = choose_method(path, fields, engine=engine, mode=mode)
    strip = method == "continue" and fields.return_token_ids is not True
    if strip:
        body = body[: body.rindex(b"}")] + b',"return_token_ids":true}'
    return Preparation(method, reason, body, strip, path, fields, engine, mode)


def choose_method(
    path: str, fields: RequestFields, *, engine: EngineKind, mode: Mode
) -> tuple[Method | None, str]:
    """The method and, where it is not `continue`, the reason."""
    if mode == "off":
        return None, "failover is off"
    if path not in (CHAT_PATH, COMPLETIONS_PATH):
        return None, "only chat completions and completions are resumed"
    if fields.stream is not True:
        return None, "not a stream"
    obstacle = _obstacle(fields)
    if obstacle:
        return None, obstacle
    if not is_greedy(fields):
        if isinstance(fields.seed, int):
            if engine not in _TOKEN_IDS:
                return None, f"what a seed means to {engine} is not known"
            if engine is EngineKind.VLLM:
                return "replay", "vLLM's generator cannot be set to a later position"
        elif mode == "exact":
            return None, "sampled without a seed"
        elif engine not in _TOKEN_IDS or (_only_by_replay(fields, engine)):
            return None, "sampled without a seed, and not continued by token ids"
    if engine is EngineKind.OPENAI and mode == "exact":
        return None, "an engine of unknown kind may answer differently each time"
    if engine not in _TOKEN_IDS:
        return "replay", f"{engine} returns no token ids"
    why_replay = _only_by_replay(fields, engine)
    return ("replay", why_replay) if why_replay else ("continue", "")


def is_deterministic(fields: RequestFields, engine: EngineKind) -> bool:
    """Whether the same request has the same answer again."""
    return is_greedy(fields) or (isinstance(fields.seed, int) and engine in _TOKEN_IDS)


def is_greedy(fields: RequestFields) -> bool:
    """A missing temperature is not 0: the model's own default is unknown here."""
    temperature = fields.temperature
    if isinstance(temperature, int | float) and 0 <= temperature < _GREEDY_BELOW:
        return True
    return bool(fields.top_k == 1)


def _obstacle(fields: RequestFields) -> str:
    """What neither method can do; "" for nothing."""
    if fields.n not in (None, 1) or fields.best_of not in (None, 1):
        return "several answers in one stream"
    if fields.use_beam_search:
        return "beam search"
    if fields.echo or fields.suffix or fields.prompt_logprobs is not None:
        return "echo, suffix and prompt_logprobs are not resumed"
    if is_given(fields.audio):
        return "audio is not resumed"
    if fields.prompt_embeds is not ABSENT:
        return "a prompt of embeddings"
    if is_given(fields.kv_transfer_params) or is_given(fields.ec_transfer_params):
        return "the prompt's KV is handed over once"
    if fields.prompt is not ABSENT and _num_prompts(fields.prompt) != 1:
        return "several prompts in one stream"
    return ""


_LISTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _num_prompts(prompt: msgspec.Raw) -> int:
    """Of a text, texts, ids or lists of ids; 0 when it is none of these."""
    text = bytes(memoryview(prompt)[:64])
    if text[:1] == b'"':
        return 1
    inner = text[1:].lstrip()[:1]
    if text[:1] != b"[" or not inner:
        return 0
    if inner in b"-0123456789":
        return 1
    return len(_LISTS.decode(prompt))


def _only_by_replay(fields: RequestFields, engine: EngineKind) -> str:
    """What depends on more than the tokens so far, or shows more than text; "" for nothing."""
    if _has_content(fields.stop):
        return "stop strings hold text back"
    if fields.logprobs not in (None, False) or fields.top_logprobs:
        return "log-probabilities"
    if is_given(fields.tools) and bytes(fields.tool_choice) != b'"none"':
        return "tools"
    if is_given(fields.functions):
        return "functions"
    if engine is not EngineKind.SHOAL and (fields.presence_penalty or fields.frequency_penalty):
        return "penalties count the answer's tokens"
    if is_given(fields.response_format) and not _is_plain_text(fields.response_format):
        return "response_format"
    for name in _REPLAY_RAW:
        if is_given(getattr(fields, name)):
            return name
    if fields.thinking_token_budget is not None or fields.include_reasoning is False:
        return "reasoning"
    if fields.watermarking:
        return "watermarking"
    return ""


_REPLAY_RAW: Final = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "bad_words", "logits_processors", "vllm_xargs", "repetition_detection",
)  # fmt: skip


def _has_content(stop: msgspec.Raw) -> bool:
    return is_given(stop) and bytes(stop) not in (b"[]", b'""')


def _is_plain_text(response_format: msgspec.Raw) -> bool:
    return bytes(response_format).replace(b" ", b"") == b'{"type":"text"}'
