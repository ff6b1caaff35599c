"""W3C trace context (https://www.w3.org/TR/trace-context/): reading and making `traceparent`.

Each request carries one to its worker, whether or not anybody exports spans.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

_HEX = b"0123456789abcdef"
_RATIO_BITS = 1 << 53


class Random(Protocol):
    """What `random.Random` has."""

    def getrandbits(self, k: int, /) -> int: ...


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
    """Continues the client's trace, or begins one; about 1.5 us.

    The client's decision to sample stands; without one, `trace_ratio` of the traces are sampled. A
    header that breaks the standard counts as none.
    """
    span_id = "%016x" % (random.getrandbits(64) or 1)
    # version 00 is 55 characters; later versions may append fields after another dash.
    if (
        incoming is not None
        and len(incoming) >= 55
        and incoming[2] == incoming[35] == incoming[52] == 45
        and (len(incoming) == 55 or (incoming[55] == 45 and incoming[:2] != b"00"))
        and incoming[:2] != b"ff"
        and not incoming[:55].translate(None, _HEX).strip(b"-")
        and incoming[:55].count(b"-") == 3
        and incoming[3:35] != b"0" * 32
        and incoming[36:52] != b"0" * 16
    ):
        text = incoming[:55].decode("ascii")
        trace_id = text[3:35]
        sampled = bool(int(text[53:55], 16) & 1)
        parent_id: str | None = text[36:52]
    else:
        trace_id = "%032x" % (random.getrandbits(128) or 1)
        sampled = random.getrandbits(53) < trace_ratio * _RATIO_BITS
        parent_id = None
    header = f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}".encode("ascii")
    return TraceContext(header, sampled, trace_id, span_id, parent_id)
