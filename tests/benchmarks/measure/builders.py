"""Records as a client would have made them."""

from __future__ import annotations

from array import array
from typing import Any

from shoal.benchmarks.measure.record import RequestRecord


def make_record(
    intended_s: float = 0.0,
    *,
    ttft_s: float = 0.1,
    gaps: tuple[float, ...] = (0.01, 0.01),
    **fields: Any,
) -> RequestRecord:
    """A complete answer: `ttft_s`, then a chunk after each gap."""
    first = intended_s + ttft_s
    last = first + sum(gaps)
    known: dict[str, Any] = {
        "session": 0,
        "turn": 0,
        "intended_s": intended_s,
        "sent_s": intended_s,
        "first_s": first,
        "last_s": last,
        "end_s": last,
        "gaps": array("f", gaps).tobytes(),
        "num_chunks": 1 + len(gaps),
        "output_tokens": 1 + len(gaps),
        "prompt_tokens": 10,
    }
    return RequestRecord(**known | fields)
