"""What came in at all routers of a model, made one. Pure.

Each router's counters grow for themselves, so one that was restarted or was away for a while does
not distort the sum: its growth is spread over the time that it covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .buckets import in_time
from .counters import Counters
from .router_page import ARRIVALS, RouterPage

FORGET_S = 60.0
"""A router that has not answered for so long is gone: its requests come in at the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Of an interval; None: not known."""

    arrivals: int | None = None
    queued: int | None = None
    held: int | None = None
    num_streams: float = 0.0
    """Streams whose first token came, and those of them in time, waiting included."""
    num_streams_in_time: float = 0.0


class DemandReader:
    """Of all routers, by address."""

    def __init__(self, ttft_s: float) -> None:
        self._ttft_s = ttft_s
        self._counters: dict[str, Counters] = {}

    def read(self, now: float, interval_s: float, pages: Mapping[str, RouterPage | None]) -> Demand:
        """`pages`: of every router there should be; None: it did not answer."""
        there = {url: page for url, page in pages.items() if page is not None}
        if not there:
            return Demand()
        arrivals = streams = streams_in_time = 0.0
        is_known = not any(
            url not in there and now - known.read_at < FORGET_S
            for url, known in self._counters.items()
        )
        num_grown = 0
        for url, page in there.items():
            growth = self._counters.setdefault(url, Counters()).grow(now, page.counts)
            if growth is None:
                continue
            num_grown += 1
            arrivals += growth.per_s(ARRIVALS) * interval_s
            total, good = in_time(growth.amounts, self._ttft_s)
            streams, streams_in_time = streams + total, streams_in_time + good
        return Demand(
            arrivals=round(arrivals) if is_known and num_grown == len(there) else None,
            queued=sum(page.queued for page in there.values()),
            held=sum(page.held for page in there.values()),
            num_streams=streams,
            num_streams_in_time=streams_in_time,
        )
