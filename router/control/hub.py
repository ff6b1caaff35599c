"""What each data-plane process has told of itself, so that every other knows it.

Pure bookkeeping: the shell passes on what `take` and `left` return. Counts are kept per process and
go with it, so a crash never leaves a request in the books for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..messages import PeerDelta

MAX_RECENT_HASHES = 200_000
"""Prefix hashes of recent requests that a new process is told: the last 3,000 prompts of 4,000
tokens each."""
CONSUMED_WINDOW_S = 60.0
"""Limits are per minute: what was consumed before has been earned again."""


class _Books:
    """Of one process: only what is not zero."""

    __slots__ = ("held", "in_flight", "parallel", "prefill_tokens")

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self.prefill_tokens: dict[str, int] = {}
        self.parallel: dict[str, int] = {}
        self.held: dict[str, int] = {}


class Hub:
    """Invariant: the sums are those of the processes that live."""

    def __init__(self) -> None:
        self._books: dict[int, _Books] = {}
        self._routed: deque[tuple[str, list[int]]] = deque()
        self._num_routed_hashes = 0
        self._consumed: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()

    def joined(self, process: int, now: float) -> list[PeerDelta]:
        """A process has started; returns what it is to hear of the others, and of the past.

        Past prefixes and consumption are a delta of their own, of process -1.
        """
        deltas = [
            PeerDelta(
                process=number,
                in_flight=dict(books.in_flight),
                prefill_tokens=dict(books.prefill_tokens),
                parallel=dict(books.parallel),
            )
            for number, books in self._books.items()
            if number != process
        ]
        past = PeerDelta(process=-1, routed=list(self._routed), consumed=self._recent(now))
        self._books[process] = _Books()
        return [*deltas, past] if past.routed or past.consumed else deltas

    def take(self, process: int, delta: PeerDelta, now: float) -> None:
        """A process has told; pass it on to the others. One that has left is not heard."""
        books = self._books.get(process)
        if books is None:
            return
        _overlay(books.in_flight, delta.in_flight)
        _overlay(books.prefill_tokens, delta.prefill_tokens)
        _overlay(books.parallel, delta.parallel)
        books.held = {model: count for model, count in delta.held.items() if count > 0}
        for endpoint_id, hashes in delta.routed:
            self._routed.append((endpoint_id, hashes))
            self._num_routed_hashes += len(hashes)
        while self._num_routed_hashes > MAX_RECENT_HASHES or len(self._routed) > MAX_RECENT_HASHES:
            self._num_routed_hashes -= len(self._routed.popleft()[1])
        if delta.consumed:
            self._note_consumed(delta.consumed, now)

    def left(self, process: int) -> PeerDelta | None:
        """A process has ended; returns what the others are to hear, if it had anything."""
        books = self._books.pop(process, None)
        if books is None or not (books.in_flight or books.prefill_tokens or books.parallel):
            return None
        return PeerDelta(
            process=process,
            in_flight=dict.fromkeys(books.in_flight, 0),
            prefill_tokens=dict.fromkeys(books.prefill_tokens, 0),
            parallel=dict.fromkeys(books.parallel, 0),
        )

    def in_flight(self) -> dict[str, int]:
        """Requests each endpoint has of all processes; endpoints without one are left out."""
        return _sum(books.in_flight for books in self._books.values())

    def held(self) -> dict[str, int]:
        """Requests held for models without an endpoint, by model, of all processes."""
        return _sum(books.held for books in self._books.values())

    def _note_consumed(self, consumed: dict[str, tuple[int, int]], now: float) -> None:
        """One entry a second."""
        if not self._consumed or now - self._consumed[-1][0] >= 1.0:
            self._consumed.append((now, {}))
        latest = self._consumed[-1][1]
        for key, (requests, tokens) in consumed.items():
            before = latest.get(key, (0, 0))
            latest[key] = (before[0] + requests, before[1] + tokens)
        self._forget_consumed(now)

    def _forget_consumed(self, now: float) -> None:
        while self._consumed and now - self._consumed[0][0] >= CONSUMED_WINDOW_S:
            self._consumed.popleft()

    def _recent(self, now: float) -> dict[str, tuple[int, int]]:
        """Consumption that has not been earned again: of half a minute ago, half."""
        self._forget_consumed(now)
        sums: dict[str, tuple[float, float]] = {}
        for at, consumed in self._consumed:
            share = 1.0 - (now - at) / CONSUMED_WINDOW_S
            for key, (requests, tokens) in consumed.items():
                before = sums.get(key, (0.0, 0.0))
                sums[key] = (before[0] + share * requests, before[1] + share * tokens)
        return {key: (round(requests), round(tokens)) for key, (requests, tokens) in sums.items()}


def _overlay(counts: dict[str, int], changed: dict[str, int]) -> None:
    for endpoint_id, count in changed.items():
        if count > 0:
            counts[endpoint_id] = count
        else:
            counts.pop(endpoint_id, None)


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for key, count in each.items():
            total[key] = total.get(key, 0) + count
    return total
