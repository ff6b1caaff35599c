"""Token counts of an answer, found in its last bytes, and what they cost.

An answer or a stream names its usage once, near its end, so no chunk is parsed on its way: the last
`"usage": {...}` is cut out of the tail and decoded alone. Text of a model cannot fake it: inside a
JSON string the quotes around `usage` are escaped.

Understood: OpenAI chat, completions, embeddings and responses, Anthropic messages, and SGLang's
native `meta_info`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..settings.access import PriceConfig
from .usage_wire import UsageWire, decode_usage

TAIL_BYTES = 4096
"""How much of the end of an answer is worth keeping for `usage_from_tail`."""
_MAX_TRIES = 8
_MAX_BRACES = 64
_WHITESPACE = b" \t\r\n"


class Usage(NamedTuple):
    """Tokens of one request."""

    prompt_tokens: int
    """All, those found in a prefix cache included."""
    cached_tokens: int
    completion_tokens: int


def usage_from_tail(tail: bytes, head: bytes = b"") -> Usage | None:
    """The usage that an answer or an event stream ends with; None when it names none.

    `head` is the beginning of a stream; it is searched when the end does not tell the prompt's
    tokens: Anthropic's `message_start` does. Anything malformed is passed over. About 2 us.
    """
    last = _last_usage(tail)
    if last is None:
        return None
    if last.prompt_tokens is None and last.input_tokens is None:
        first = _first_usage(head or tail)
        if first is not None:
            last.input_tokens = first.input_tokens
            last.prompt_tokens = first.prompt_tokens
            last.cache_read_input_tokens = first.cache_read_input_tokens
            last.cache_creation_input_tokens = first.cache_creation_input_tokens
    return _usage(last)


def cost_of(usage: Usage, price: PriceConfig) -> float:
    """In the currency of the price list."""
    uncached = usage.prompt_tokens - usage.cached_tokens
    return (
        uncached * price.prompt
        + usage.cached_tokens * price.cached
        + usage.completion_tokens * price.completion
    ) * 1e-6


def _last_usage(tail: bytes) -> UsageWire | None:
    for name in (b'"usage"', b'"meta_info"'):
        end = len(tail)
        for _ in range(_MAX_TRIES):
            found = tail.rfind(name, 0, end)
            if found < 0:
                break
            wire = _object_after(tail, found + len(name))
            if wire is not None:
                return wire
            end = found
    return None


def _first_usage(head: bytes) -> UsageWire | None:
    found = head.find(b'"usage"')
    return None if found < 0 else _object_after(head, found + len(b'"usage"'))


def _object_after(text: bytes, position: int) -> UsageWire | None:
    """Decodes the object that follows `:` at `position`; None when it is null, cut off or odd."""
    if text.startswith(b":{", position):  # as nearly all are written
        start = position + 1
    else:
        start = text.find(b"{", position)
        if start < 0 or text[position:start].strip(_WHITESPACE) != b":":
            return None
    end = text.find(b"}", start)
    if end >= 0 and text.find(b"{", start + 1, end) >= 0:  # there is an object in it
        end = _closing_brace(text, start)
    if end < 0:
        return None
    try:
        wire = decode_usage(text[start : end + 1])
    except msgspec.MsgspecError:
        return None
    is_usage = not (
        wire.prompt_tokens is None
        and wire.completion_tokens is None
        and wire.input_tokens is None
        and wire.output_tokens is None
    )
    return wire if is_usage else None


def _closing_brace(text: bytes, start: int) -> int:
    """Where the object that opens at `start` ends; -1 when it does not.

    Braces inside strings are counted too: usage objects have none, and a wrong cut fails to decode.
    """
    end = start
    for _ in range(_MAX_BRACES):
        end = text.find(b"}", end + 1)
        if end < 0:
            return -1
        if text.count(b"{", start, end) == text.count(b"}", start, end + 1):
            return end
    return -1


def _usage(wire: UsageWire) -> Usage:
    prompt = wire.prompt_tokens
    if prompt is None:
        prompt = wire.input_tokens or 0
    completion = wire.completion_tokens
    if completion is None:
        completion = wire.output_tokens or 0
    details = wire.prompt_tokens_details or wire.input_tokens_details
    cached = (wire.cached_tokens if details is None else details.cached_tokens) or 0
    if wire.cache_read_input_tokens is not None or wire.cache_creation_input_tokens is not None:
        # Anthropic counts cached tokens beside input_tokens, OpenAI within.
        cached = wire.cache_read_input_tokens or 0
        prompt += cached + (wire.cache_creation_input_tokens or 0)
    if 0 <= cached <= prompt and completion >= 0:
        return Usage(prompt, cached, completion)
    prompt = max(prompt, 0)
    return Usage(prompt, min(max(cached, 0), prompt), max(completion, 0))
