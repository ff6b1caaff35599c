"""Weighted fairness between tenants, by tokens: the waiting requests of one priority band.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", 1996) with tokens as
cost, as the Virtual Token Counter has it (Sheng et al., "Fairness in Serving Large Language
Models", 2024). A tenant has a counter of the tokens it was given, divided by its weight. The
first request of each tenant and model carries a start tag: the counter then, or the band's
virtual time if that is later, so that nobody saves up credit while idle. The lowest tag goes
next; virtual time is the tag that went last.

Requests of a model that has no capacity wait without holding up those of other models: a *lane*
is a model, with a heap of its tenants. Within a tenant and model the order is that of arrival.
Between two tenants that always have requests waiting for the same model, tokens given per weight
never differ by more than the largest request of each (over its weight): the bound of the 1996
paper, and a test.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

T = TypeVar("T")

MIN_PRUNE = 1024
"""Counters that are not worth a sweep for those that time has caught up with."""


class Item(Generic[T]):
    """One waiting request."""

    __slots__ = (
        "band", "deadline", "is_held", "model", "number", "offered_at", "tenant", "ticket",
        "tokens", "weight",
    )  # fmt: skip

    def __init__(
        self, ticket: T, tenant: str, weight: float, tokens: int, band: int, model: str,
        offered_at: float, deadline: float, number: int, *, is_held: bool,
    ) -> None:  # fmt: skip
        self.ticket = ticket
        self.tenant = tenant
        self.weight = weight
        self.tokens = tokens
        self.band = band
        self.model = model
        self.offered_at = offered_at
        self.deadline = deadline
        self.number = number
        """Order of arrival."""
        self.is_held = is_held


class _Flow(Generic[T]):
    """What one tenant has waiting for one model."""

    __slots__ = ("items", "start", "tenant")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        # An OrderedDict, not a deque: taking one out of the middle (cancel) is O(1) as well.
        self.items: OrderedDict[int, Item[T]] = OrderedDict()
        self.start = 0.0


class _Lane(Generic[T]):
    """What waits for one model: a heap of (start tag, arrival, flow), entries maybe out of date."""

    __slots__ = ("flows", "heap")

    def __init__(self) -> None:
        self.flows: dict[str, _Flow[T]] = {}
        self.heap: list[tuple[float, int, _Flow[T]]] = []


class FairShare(Generic[T]):
    """A multi-tenant queue. `add` and `remove` are O(log tenants), `peek` O(models) on top."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self._counters: dict[str, float] = {}
        """Tokens given per weight. One that virtual time has passed counts for nothing."""
        self._num_waiting: dict[str, int] = {}
        self._time = 0.0
        self._last_counter = 0.0
        self._prune_at = MIN_PRUNE
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, item: Item[T]) -> None:
        """Put it behind what its tenant already has waiting for the model."""
        lane = self._lanes.get(item.model)
        if lane is None:
            lane = self._lanes[item.model] = _Lane()
        flow = lane.flows.get(item.tenant)
        if flow is None:
            flow = lane.flows[item.tenant] = _Flow(item.tenant)
            flow.start = max(self._time, self._counters.get(item.tenant, 0.0))
            heappush(lane.heap, (flow.start, item.number, flow))
        flow.items[item.number] = item
        self._num_waiting[item.tenant] = self._num_waiting.get(item.tenant, 0) + 1
        self._size += 1

    def peek(self, can_run: Callable[[T], bool], blocked: set[str]) -> Item[T] | None:
        """Who goes next, of those that can run; None: nobody.

        A model whose next request cannot run is added to `blocked` and not asked about again.
        """
        asked: list[tuple[float, int, str]] = []
        for model in list(self._lanes):
            if model not in blocked:
                head = self._head(model)
                if head is not None:
                    asked.append((*head, model))
        # Usually one model, seldom more than a few: sorting beats a heap of lanes to keep true.
        for _, _, model in sorted(asked):
            flow = self._lanes[model].heap[0][2]
            item = next(iter(flow.items.values()))
            if can_run(item.ticket):
                return item
            blocked.add(model)
        return None

    def take(self, item: Item[T]) -> None:
        """Take out what `peek` just showed, and charge its tenant."""
        flow = self._lanes[item.model].flows[item.tenant]
        start = max(flow.start, self._counters.get(item.tenant, 0.0))
        self._time = max(self._time, start)
        counter = start + item.tokens / item.weight
        self._counters[item.tenant] = counter
        self._last_counter = max(self._last_counter, counter)
        flow.start = max(self._time, counter)
        self.remove(item)

    def remove(self, item: Item[T]) -> None:
        """Take it out, wherever it stands, and charge nothing."""
        lane = self._lanes[item.model]
        flow = lane.flows[item.tenant]
        del flow.items[item.number]
        self._size -= 1
        waiting = self._num_waiting[item.tenant] - 1
        if waiting:
            self._num_waiting[item.tenant] = waiting
        else:
            del self._num_waiting[item.tenant]
        if not flow.items:
            # Its heap entry is dropped when it comes up, or here once such entries pile up.
            del lane.flows[item.tenant]
            if not lane.flows:
                del self._lanes[item.model]
            elif len(lane.heap) > 2 * len(lane.flows) + 16:
                lane.heap = [entry for entry in lane.heap if entry[2].items]
                heapify(lane.heap)
        if not self._size:
            # Nobody waits, so nobody is ahead: virtual time catches up with every counter.
            self._time = max(self._time, self._last_counter)
            self._counters.clear()
        elif len(self._counters) > self._prune_at:
            self._counters = {
                tenant: counter
                for tenant, counter in self._counters.items()
                if counter > self._time or tenant in self._num_waiting
            }
            self._prune_at = max(MIN_PRUNE, 2 * len(self._counters))

    def waits_for(self, model: str) -> bool:
        return model in self._lanes

    def waiting_by_tenant(self) -> dict[str, int]:
        """Requests of each tenant that has any."""
        return dict(self._num_waiting)

    def _head(self, model: str) -> tuple[float, int] | None:
        """(start tag, arrival) of the model's next request, with the top of its heap made true."""
        lane = self._lanes[model]
        heap = lane.heap
        while heap:
            tag, number, flow = heap[0]
            if not flow.items:
                heappop(heap)
                continue
            # It may have been charged for another model since.
            start = max(flow.start, self._counters.get(flow.tenant, 0.0))
            first = next(iter(flow.items))
            if start == tag and first == number:
                return tag, number
            flow.start = start
            heapreplace(heap, (start, first, flow))
        return None
