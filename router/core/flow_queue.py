"""The router's queue: what waits while every worker is full, and who goes next.

Bounded, by band and by model without an endpoint; each ticket that was `Queued` leaves exactly
once: by `take`, `expire` or `cancel`. A ticket is whatever the caller wants back, hashable and
unequal to all others that wait.

Bands are strict: while a band has a request that can run, those below it wait. One exception
keeps them from starving: a waiting band is owed `GUARD_SHARE` of the tokens that bands above it are
given, and goes first once that pays for its next request. So batch work advances at a twentieth
of the fleet at worst. Within a band tenants share by tokens and weight (`fair_share.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, Generic, NamedTuple, TypeVar

from .drain_rate import UNKNOWN_RETRY_S, DrainRate
from .fair_share import FairShare, Item

T = TypeVar("T", bound=Hashable)

GUARD_SHARE: Final = 0.05
MAX_OWED_TOKENS: Final = 65_536.0
"""A band whose models are all full gathers no more, lest it block those above for long; and
this pays for a request that is larger."""


class Band(NamedTuple):
    """One priority band. See `BandConfig` in router/settings/protection.py."""

    name: str
    priority: int
    """Lower is served first."""
    max_queued: int = 1024
    deadline_s: float = 30.0


class Queued(NamedTuple):
    """It waits; `take`, `expire` or `cancel` will end that."""

    band: str
    num_ahead: int
    """Requests that waited in the band already. Not all need go first."""
    deadline: float


class Shed(NamedTuple):
    """It does not wait. The answer to the client, as a value."""

    status: int
    """429: the queue is full. 503: waited in vain."""
    reason: str
    """"band_full", "model_full" (no endpoint, and too many held for it), "deadline", "no_endpoint"
    (the deadline of one held)."""
    retry_after_s: float


class BandDepth(NamedTuple):
    """For metrics."""

    num_queued: int
    tokens: int
    by_tenant: dict[str, int]
    taken_per_s: float


class _BandState(Generic[T]):
    __slots__ = ("band", "num_queued", "owed", "rate", "share", "tokens")

    def __init__(self, band: Band) -> None:
        self.band = band
        self.share: FairShare[T] = FairShare()
        self.rate = DrainRate()
        self.num_queued = 0
        """Those that are not held."""
        self.tokens = 0
        self.owed = 0.0
        """Tokens; below 0 after a request larger than `MAX_OWED_TOKENS`."""


class FlowQueue(Generic[T]):
    """See the module. A few microseconds a request, and nothing for one that need not wait."""

    def __init__(
        self, bands: Sequence[Band], *, max_held: int = 1024, hold_s: float = 60.0
    ) -> None:
        if not bands:
            raise ValueError("flow control needs at least one band")
        if len({band.name for band in bands}) < len(bands):
            raise ValueError(f"two bands have one name: {[band.name for band in bands]}")
        if len({band.priority for band in bands}) < len(bands):
            raise ValueError(f"two bands have one priority: {[b.priority for b in bands]}")
        for band in bands:
            if band.max_queued < 0 or band.deadline_s <= 0:
                raise ValueError(
                    f"band {band.name!r}: max_queued must be 0 or more and deadline_s positive, "
                    f"got {band.max_queued} and {band.deadline_s}"
                )
        ordered = sorted(bands, key=lambda band: band.priority)
        self._bands: list[_BandState[T]] = [_BandState(band) for band in ordered]
        self._index = {state.band.name: i for i, state in enumerate(self._bands)}
        self._max_held = max_held
        self._hold_s = hold_s
        self._items: dict[T, Item[T]] = {}
        self._held: dict[str, int] = {}
        self._deadlines: list[tuple[float, int, Item[T]]] = []
        self._number = 0

    def __len__(self) -> int:
        """All that wait, held ones included."""
        return len(self._items)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self._items

    def band_of(self, priority: int) -> str:
        """The first band whose number is not below `priority`; past the last one, the last."""
        for state in self._bands:
            if state.band.priority >= priority:
                return state.band.name
        return self._bands[-1].band.name

    def offer(
        self,
        ticket: T,
        *,
        tenant: str,
        tokens: int,
        band: str,
        model: str,
        now: float,
        weight: float = 1.0,
        deadline: float | None = None,
        hold: bool = False,
    ) -> Queued | Shed:
        """Let it wait, or say why not.

        `tokens`: uncached prompt tokens and the expected answer. `model`: requests with one name
        here can run, or cannot, together: add a split's selector to it if there is one.
        `deadline`: a time point, that of the band (or `hold_s`) unless it is sooner. `hold`: the
        model has no endpoint; it counts against `max_held` and not against the band, until
        `release`.
        """
        assert ticket not in self._items, "offered twice"
        assert weight > 0
        index = self._index[band]
        state = self._bands[index]
        if hold:
            if self._held.get(model, 0) >= self._max_held:
                return Shed(429, "model_full", UNKNOWN_RETRY_S)
        elif state.num_queued >= state.band.max_queued:
            return Shed(429, "band_full", state.rate.retry_after_s(state.num_queued, now))
        latest = now + (self._hold_s if hold else state.band.deadline_s)
        deadline = latest if deadline is None else min(latest, deadline)
        self._number += 1
        item = Item(
            ticket, tenant, weight, max(1, tokens), index, model, now, deadline, self._number,
            is_held=hold,
        )  # fmt: skip
        num_ahead = len(state.share)
        self._items[ticket] = item
        state.share.add(item)
        state.tokens += item.tokens
        if hold:
            self._held[model] = self._held.get(model, 0) + 1
        else:
            state.num_queued += 1
        heappush(self._deadlines, (deadline, self._number, item))
        return Queued(band, num_ahead, deadline)

    def take(self, now: float, can_run: Callable[[T], bool]) -> T | None:
        """The next ticket that can run, taken out; None: none can.

        `can_run` is asked about the first request of each tenant-and-model order that comes up, at
        most once a model. Call again until None, after anything that made room.
        """
        if not self._items:
            return None
        blocked: set[str] = set()
        item: Item[T] | None = None
        for state in self._bands:
            if not len(state.share) or (item is not None and state.owed <= 0):
                continue
            runnable = state.share.peek(can_run, blocked)
            if runnable is None:
                continue
            if item is None:
                item = runnable
            elif state.owed >= min(runnable.tokens, MAX_OWED_TOKENS):
                item = runnable
                state.owed -= item.tokens  # for overtaking: what nobody above wants is free
                break
        if item is None:
            return None
        state = self._bands[item.band]
        for other in self._bands[item.band + 1 :]:
            if len(other.share):
                other.owed = min(MAX_OWED_TOKENS, other.owed + GUARD_SHARE * item.tokens)
        state.share.take(item)
        state.rate.on_departure(now)
        self._leave(state, item)
        return item.ticket

    def expire(self, now: float) -> list[tuple[T, Shed]]:
        """Take out all whose deadline has come. They are answered with what stands beside them."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            item = heappop(self._deadlines)[2]
            if self._items.get(item.ticket) is not item:
                continue
            state = self._bands[item.band]
            state.share.remove(item)
            self._leave(state, item)
            if item.is_held:
                shed = Shed(503, "no_endpoint", UNKNOWN_RETRY_S)
            else:
                retry_after_s = state.rate.retry_after_s(state.num_queued + 1, now)
                shed = Shed(503, "deadline", retry_after_s)
            expired.append((item.ticket, shed))
        return expired

    def cancel(self, ticket: T) -> bool:
        """Take it out: the client is gone. False: it does not wait (any more)."""
        item = self._items.get(ticket)
        if item is None:
            return False
        state = self._bands[item.band]
        state.share.remove(item)
        self._leave(state, item)
        return True

    def release(self, model: str) -> None:
        """The model has an endpoint: what was held for it waits like everybody else."""
        if self._held.pop(model, 0):
            for item in self._items.values():
                if item.is_held and item.model == model:
                    item.is_held = False
                    self._bands[item.band].num_queued += 1

    def waits_for(self, model: str) -> bool:
        """Whether anybody waits for it: then a newcomer must queue too, and not slip past them."""
        return any(state.share.waits_for(model) for state in self._bands)

    def drain(self) -> list[T]:
        """Take out everything, in order of arrival: before a queue with other bands replaces it."""
        tickets = list(self._items)
        for ticket in tickets:
            self.cancel(ticket)
        return tickets

    def retry_after_s(self, band: str, now: float) -> float:
        """When a request of the band that came now could expect to be served."""
        state = self._bands[self._index[band]]
        return state.rate.retry_after_s(state.num_queued + 1, now)

    def held(self) -> dict[str, int]:
        """Requests held for each model that has no endpoint: the demand from zero."""
        return dict(self._held)

    def queued(self) -> dict[str, int]:
        """Requests that wait for each model that has endpoints. O(requests): for metrics."""
        return dict(Counter(item.model for item in self._items.values() if not item.is_held))

    def depth(self, now: float) -> dict[str, BandDepth]:
        """By band name. O(tenants): for metrics."""
        return {
            state.band.name: BandDepth(
                state.num_queued, state.tokens, state.share.waiting_by_tenant(),
                state.rate.per_s(now),
            )
            for state in self._bands
        }  # fmt: skip

    def _leave(self, state: _BandState[T], item: Item[T]) -> None:
        """Forget an item that has been taken out of its band's share."""
        del self._items[item.ticket]
        state.tokens -= item.tokens
        if item.is_held:
            left = self._held[item.model] - 1
            if left:
                self._held[item.model] = left
            else:
                del self._held[item.model]
        else:
            state.num_queued -= 1
        if not len(state.share):
            state.owed = min(0.0, state.owed)
        if len(self._deadlines) > 2 * len(self._items) + 64:
            # Most were taken long before their deadline: do not keep them until it.
            self._deadlines = [
                entry for entry in self._deadlines if self._items.get(entry[2].ticket) is entry[2]
            ]
            heapify(self._deadlines)
