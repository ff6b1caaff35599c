"""W3C trace context (https://www.w3.org/TR/trace-context/): reading and making `traceparent`.

Each request carries one to its worker, whether or not anybody exports spans.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

_match = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?", re.DOTALL
).fullmatch
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_ODD: Final = frozenset(b"%x" % digit for digit in range(1, 16, 2))
"""Last digits of flags whose lowest bit, "sampled", is set."""
_NEVER_ZERO: Final = 1 << 64 | 1
"""One bit of each id; ids of zeros are invalid."""


class Random(Protocol):
    """What `random.Random` has."""

    def getrandbits(self, k: int, /) -> int: ...

    def random(self) -> float: ...


class TraceContext(NamedTuple):
    """Where one request stands in its trace; ids are lower-case hexadecimal."""

    traceparent: bytes
    """Goes to the worker: its parent is our span."""
    sampled: bool
    trace_id: str
    span_id: str
    """Of our server span."""
    parent_id: str | None
    """Of the client's span; None: the trace begins here."""


def child_traceparent(incoming: bytes | None, trace_ratio: float, random: Random) -> TraceContext:
    """Continues the client's trace, or begins one; about 2 us.

    The client's decision to sample stands; without one, `trace_ratio` of the traces are sampled. A
    header that breaks the standard counts as none.
    """
    digits = "%048x" % (random.getrandbits(192) | _NEVER_ZERO)
    span_id = digits[32:]
    found = None if incoming is None else _match(incoming)
    if found is not None:
        version, trace, span, flags, more = found.groups()
        # Version 255 is invalid, and only versions to come may say more.
        is_sound = (version == b"00" and more is None) or b"00" < version < b"ff"
        if is_sound and trace != _NO_TRACE and span != _NO_SPAN:
            trace_id = trace.decode()
            sampled = flags in _ODD
            header = f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}".encode()
            return TraceContext(header, sampled, trace_id, span_id, span.decode())
    trace_id = digits[:32]
    sampled = random.random() < trace_ratio
    header = f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}".encode()
    return TraceContext(header, sampled, trace_id, span_id, None)
