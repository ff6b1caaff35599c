"""Token counts of an answer, found in its last bytes, and what they cost.

An answer or a stream names its usage once, near its end, so no chunk is parsed on its way: the last
`"usage": {...}` is cut out of the tail and decoded alone. Text of a model cannot fake it: inside a
JSON string the quotes around `usage` are escaped.

Understood: OpenAI chat, completions, embeddings and responses, Anthropic messages, and SGLang's
native `meta_info`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..settings.access import PriceConfig
from .usage_wire import UsageWire, decode_usage

TAIL_BYTES: Final = 4096
"""How much of the end of an answer is worth keeping for `usage_from_tail`."""
_MAX_TRIES: Final = 8
_MAX_BRACES: Final = 64
_WHITESPACE: Final = b" \t\r\n"


class Usage:
    """Tokens of one request."""

    __slots__ = ("cached_tokens", "completion_tokens", "prompt_tokens")

    def __init__(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens: Final = prompt_tokens
        """All, those found in a prefix cache included."""
        self.cached_tokens: Final = cached_tokens
        self.completion_tokens: Final = completion_tokens

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Usage)
            and self.prompt_tokens == other.prompt_tokens
            and self.cached_tokens == other.cached_tokens
            and self.completion_tokens == other.completion_tokens
        )

    def __hash__(self) -> int:
        return hash((self.prompt_tokens, self.cached_tokens, self.completion_tokens))

    def __repr__(self) -> str:
        return f"Usage({self.prompt_tokens}, {self.cached_tokens}, {self.completion_tokens})"


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
    # Cut rather than searched with positions, which is slow once this is compiled.
    for name in (b'"usage"', b'"meta_info"'):
        before, later = tail, b""
        for _ in range(_MAX_TRIES):
            before, mark, after = before.rpartition(name)
            if not mark:
                break
            after += later
            wire = _object_of(after)
            if wire is not None:
                return wire
            later = mark + after
    return None


def _first_usage(head: bytes) -> UsageWire | None:
    return _object_of(head.partition(b'"usage"')[2])


def _object_of(text: bytes) -> UsageWire | None:
    """Decodes the object behind the `:` that text begins with; None when it is null, cut off or
    odd."""
    if not text.startswith(b":{"):  # as nearly all are written
        text = text.lstrip(_WHITESPACE)
        if not text.startswith(b":"):
            return None
        text = text[:1] + text[1:].lstrip(_WHITESPACE)
        if not text.startswith(b":{"):
            return None
    inner, brace, _ = text.partition(b"}")
    if not brace:
        return None
    raw = inner[1:] + brace
    if inner[2:].find(b"{") >= 0:  # there is an object in it
        end = _closing_brace(text, 1)
        if end < 0:
            return None
        raw = text[1 : end + 1]
    try:
        wire = decode_usage(raw)
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
