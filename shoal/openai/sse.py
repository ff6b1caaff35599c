"""Server-sent events as OpenAI streams use them: `data:` lines only, closed by `[DONE]`."""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def sse_event(payload: msgspec.Struct) -> bytes:
    """One event; JSON has no raw newlines, so one `data:` line is enough."""
    return b"data: %b\n\n" % _encode(payload)
