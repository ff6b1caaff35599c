"""What most reads of a stream are: one whole chunk, with one event that says no more than a token.

Seen without a parser, so that it can pass as it came. Whatever is not exactly that takes the way
through the parsers, which know nothing of the chunks that were left out: before and after a whole
chunk they are in the same state.
"""

from __future__ import annotations

from typing import Final

_MAX_SIZE_DIGITS: Final = 6
_ZERO: Final = 48
_NINE: Final = 57
_BIG_A: Final = 65
_BIG_F: Final = 70
_A: Final = 97
_F: Final = 102
_CR: Final = 13
_LF: Final = 10
_BEGIN: Final = b'data: {"id"'
"""Not `data: {"error"`, a comment or `[DONE]`."""
_UNFINISHED: Final = b'"finish_reason":null'
"""In texts the quotes are escaped. So there is a choice (it is not the usage), and no worker has
given up."""
_TOKEN_IDS: Final = b'token_ids":['
"""Of the answer or of the prompt."""


def whole_chunk(data: bytes) -> int:
    """Where the payload starts, if this is exactly one chunk, not the last, without extensions; it
    ends two bytes before the end. Else 0."""
    # Bytes one by one, and no methods with positions: those are slow once this is compiled.
    most = min(len(data) - 1, _MAX_SIZE_DIGITS)
    size = at = 0
    while at < most:
        digit = data[at]
        if _ZERO <= digit <= _NINE:
            size = 16 * size + digit - _ZERO
        elif _A <= digit <= _F:
            size = 16 * size + digit - _A + 10
        elif _BIG_A <= digit <= _BIG_F:
            size = 16 * size + digit - _BIG_A + 10
        else:
            break
        at += 1
    if size == 0 or len(data) != at + size + 4 or data[at] != _CR or data[at + 1] != _LF:
        return 0
    return at + 2 if data.endswith(b"\r\n") else 0


def is_plain_event(payload: bytes, *, without_token_ids: bool) -> bool:
    """Whether the payload of a whole chunk is one such event."""
    # `find` takes a third of the time of `in`, which for bytes asks first whether it is a number.
    return (
        payload.startswith(_BEGIN)
        and payload.endswith(b"\n\n")
        and payload.find(b"\n") == len(payload) - 2
        and payload.find(_UNFINISHED) >= 0
        and not (without_token_ids and payload.find(_TOKEN_IDS) >= 0)
    )
