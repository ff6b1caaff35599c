"""Where a request goes, and where it waits when it can go nowhere.

The core decides; this obeys, remembers what was decided, and asks again when something has changed:
an attempt ended, a worker came or recovered, a limit grew.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from shoal.errors import NoEndpoint, QueueFull, QueueTimeout

from ..core.filters import eligible, has_labels
from ..core.flow_queue import Band, FlowQueue, Shed
from ..core.retry_budget import HedgeBudget, RetryBudget, backoff_s
from ..core.types import (
    BreakerState,
    Decision,
    EndpointStatus,
    RoutingRequest,
    Shortage,
)
from ..settings.config import RouterConfig
from .attempt import Attempt, Failure

if TYPE_CHECKING:
    from .admission import Admission
    from .exchange import Exchange
    from .gateway import Gateway

_KEPT_DECISIONS: Final = 1000
_ALL_FAILED_PAUSE_S: Final = 0.25
"""Before workers that have all failed a request are tried again."""
_GONE: Final = frozenset({Failure.CONNECT, Failure.STALE, Failure.LOST})


class Noted:
    """A decision that was followed."""

    __slots__ = ("at", "decision", "model", "request_id")

    def __init__(self, at: float, request_id: bytes, model: str, decision: Decision) -> None:
        self.at = at
        self.request_id = request_id
        self.model = model
        self.decision = decision


class Dispatcher:
    """One per data-plane process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.queue: FlowQueue[Exchange] = FlowQueue([Band("default", 0)])
        self.retries = RetryBudget(0.2, 32)
        self.hedges = HedgeBudget(0.0)
        self.decisions: deque[Noted] = deque(maxlen=_KEPT_DECISIONS)
        """The latest, for people who ask why."""
        self._is_pumping = False
        self._rng = random.Random()

    def configure(self, config: RouterConfig) -> None:
        """Take a configuration; what waits goes through the new queue."""
        retry, hedge, flow = config.retry, config.hedge, config.flow_control
        self.retries = RetryBudget(retry.budget_ratio, retry.budget_min)
        self.hedges = HedgeBudget(0.0 if hedge is None else hedge.max_ratio)
        old = self.queue
        self.queue = FlowQueue(
            [Band(b.name, b.priority, b.max_queued, b.deadline_s) for b in flow.bands],
            max_held=flow.max_held,
            hold_s=flow.hold_without_endpoint_s,
        )
        for exchange in old.drain():
            exchange.dispatch()

    # Sending.

    def dispatch(self, exchange: Exchange) -> None:
        """Give a request to the best worker, or let it wait, or refuse it."""
        gateway = self._gateway
        now = gateway.now()
        if len(self.queue) and not exchange.waiting_since and self._must_queue(exchange):
            admission = exchange.admission
            assert admission is not None
            has_ready = gateway.fleet.has_ready(admission.served_model, admission.selector)
            self._enqueue(exchange, now, hold=not has_ready)
            self.wake()
            return
        decision = self._decide(exchange, now, exchange.excluded)
        endpoint = decision.endpoint
        if endpoint is not None:
            if exchange.num_attempts == 0:
                self.retries.on_request(now)
                self.hedges.on_request(now)
            self._send(exchange, decision, now)
            return
        if decision.shortage is Shortage.ALL_EXCLUDED:
            exchange.excluded = frozenset()
            exchange.wait(_ALL_FAILED_PAUSE_S)
        else:
            self._enqueue(exchange, now, hold=decision.shortage is not Shortage.ALL_FULL)

    def retry(self, exchange: Exchange, attempt: Attempt, failure: Failure) -> bool:
        """Try again after a failed attempt; False: that was the last."""
        gateway = self._gateway
        if exchange.num_attempts >= gateway.config.retry.max_attempts:
            return False
        is_free = (
            # `may_retry` has already taken it.
            failure in (Failure.BUSY, Failure.STATUS)
            # A worker that died computes nothing any more, so going on elsewhere is no extra load.
            or (failure in _GONE and exchange.num_attempts == 1)
        )
        if not is_free and not self._takes_budget():
            return False
        gateway.metrics.retries.add(failure)
        if failure is not Failure.STALE:
            exchange.excluded = exchange.excluded | {attempt.endpoint_id}
        retry = gateway.config.retry
        delay_s = backoff_s(
            exchange.num_attempts,
            self._rng.random(),
            base_s=retry.backoff_s,
            max_backoff_s=retry.max_backoff_s,
        )
        if delay_s > 0:
            exchange.wait(delay_s)
        else:
            exchange.dispatch()
        return True

    def may_retry(self, exchange: Exchange, attempt: Attempt, failure: Failure) -> bool:
        """Whether another worker is to be asked after an error answer; takes it from the budget."""
        gateway = self._gateway
        if exchange.num_attempts >= gateway.config.retry.max_attempts:
            return False
        if failure is Failure.STATUS and exchange.num_attempts > 1:
            return False  # two workers failed it: it is the request
        tried = exchange.excluded | {attempt.endpoint_id}
        admission = exchange.admission
        assert admission is not None
        request = RoutingRequest(admission.served_model, selector=admission.selector)
        # A worker with an open breaker is tried when there is no other, but not instead of an
        # answer: this one is not a good one, and it is one.
        has_other = any(
            state.endpoint.endpoint_id not in tried
            and state.status is EndpointStatus.READY
            and state.breaker is not BreakerState.OPEN
            and has_labels(state, request)
            for state in gateway.fleet.serving(admission.served_model)
        )
        return has_other and self._takes_budget()

    def _takes_budget(self) -> bool:
        """Take one retry out of the budget; False: it is empty."""
        if self.retries.try_retry(self._gateway.now()):
            return True
        self._gateway.metrics.retries.add("no_budget")
        return False

    def hedge(self, exchange: Exchange) -> None:
        """Send a second copy of a request whose answer is late, if another worker is free."""
        gateway = self._gateway
        now = gateway.now()
        first = exchange.tried[-1].endpoint_id
        decision = self._decide(exchange, now, exchange.excluded | {first})
        if decision.endpoint is not None and self.hedges.try_hedge(now):
            gateway.metrics.hedges.add("sent")
            self._send(exchange, decision, now)

    def redirect(self, exchange: Exchange) -> Decision:
        """Where a stream can go on whose worker is gone; recorded like every decision."""
        decision = self._decide(exchange, self._gateway.now(), exchange.excluded)
        if decision.endpoint is not None:
            self._note(exchange, decision, self._gateway.now())
        return decision

    def _decide(self, exchange: Exchange, now: float, excluded: frozenset[str]) -> Decision:
        admission = exchange.admission
        assert admission is not None
        gateway = self._gateway
        request = RoutingRequest(
            model=admission.served_model,
            num_prompt_tokens=admission.num_prompt_tokens,
            prefix_hashes=admission.prefix_hashes,
            session_id=admission.session_id,
            selector=admission.selector,
            excluded=excluded,
            block_hashes=admission.block_hashes,
            block_size=admission.block_size,
        )
        policy = gateway.experience.policy(admission.policy)
        return policy.decide(request, gateway.fleet.serving(admission.served_model), now)

    def _send(self, exchange: Exchange, decision: Decision, now: float) -> None:
        self._note(exchange, decision, now)
        endpoint, admission = decision.endpoint, exchange.admission
        assert endpoint is not None
        assert admission is not None
        entry = self._gateway.fleet.entries[endpoint.endpoint_id]
        prefill_tokens = max(0, admission.num_prompt_tokens - decision.num_cached_tokens)
        exchange.try_on(entry, decision, prefill_tokens)

    def _note(self, exchange: Exchange, decision: Decision, now: float) -> None:
        """Remember what follows from a decision: the worker will have this prefix."""
        gateway, admission = self._gateway, exchange.admission
        assert decision.endpoint is not None
        assert admission is not None
        endpoint_id = decision.endpoint.endpoint_id
        gateway.experience.sent(endpoint_id, admission, now)
        self.decisions.append(Noted(now, exchange.request_id, admission.model, decision))

    # Waiting.

    def _enqueue(self, exchange: Exchange, now: float, *, hold: bool) -> None:
        admission = exchange.admission
        assert admission is not None
        queue = self.queue
        principal = admission.principal
        band = queue.band_of(_priority(admission))
        verdict = queue.offer(
            exchange,
            tenant=principal.tenant,
            tokens=admission.num_expected_tokens,
            band=band,
            model=waiting_key(admission.served_model, admission.selector),
            now=now,
            weight=principal.weight,
            hold=hold,
        )
        if isinstance(verdict, Shed):
            self._shed(exchange, verdict)
        else:
            exchange.waiting_since = now

    def _must_queue(self, exchange: Exchange) -> bool:
        """Whether others wait for the same workers: nobody goes before them."""
        admission = exchange.admission
        assert admission is not None
        return self.queue.waits_for(waiting_key(admission.served_model, admission.selector))

    def leave(self, exchange: Exchange) -> None:
        """It ended while it waited."""
        self.queue.cancel(exchange)

    def wake(self) -> None:
        """Something may have made room: look once the current events are dealt with."""
        if len(self.queue) and not self._is_pumping:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pumping = False
        gateway, queue = self._gateway, self.queue
        now = gateway.now()
        for key in list(queue.held()):
            model, selector = parse_waiting_key(key)
            if gateway.fleet.has_ready(model, selector):
                queue.release(key)
        while (exchange := queue.take(now, self._can_run)) is not None:
            waited_s = now - exchange.waiting_since
            exchange.queued_s += waited_s
            admission = exchange.admission
            assert admission is not None
            gateway.metrics.waited(queue.band_of(_priority(admission)), waited_s)
            exchange.dispatch()
            if exchange in queue:
                break  # what looked like room was none

    def held_by_model(self) -> dict[str, int]:
        """Requests that wait for a model without a worker: what an autoscaler acts on."""
        return _by_model(self.queue.held())

    def queued_by_model(self) -> dict[str, int]:
        """Requests that wait for a worker with room."""
        return _by_model(self.queue.queued())

    def expire(self, now: float) -> None:
        """Answer those that have waited too long."""
        for exchange, shed in self.queue.expire(now):
            exchange.queued_s += now - exchange.waiting_since
            self._shed(exchange, shed)

    def _can_run(self, exchange: Exchange) -> bool:
        """Whether somebody would take it, be it one that has failed it: of those `dispatch` knows
        what to do."""
        admission = exchange.admission
        assert admission is not None
        request = RoutingRequest(admission.served_model, selector=admission.selector)
        _, _, shortage, _ = eligible(
            request, self._gateway.fleet.serving(admission.served_model), inf
        )
        return shortage is None

    def _shed(self, exchange: Exchange, shed: Shed) -> None:
        self._gateway.metrics.shed.add(shed.reason)
        retry_after_s = shed.retry_after_s
        if shed.reason in ("band_full", "model_full"):
            exchange.refuse(
                QueueFull(
                    f"Too many requests wait; try again in {retry_after_s:.0f} s.",
                    retry_after_s=retry_after_s,
                )
            )
        elif shed.reason == "no_endpoint":
            exchange.refuse(
                NoEndpoint("No worker for this model came up in time.", retry_after_s=retry_after_s)
            )
        else:
            exchange.refuse(
                QueueTimeout("Every worker stayed busy for too long.", retry_after_s=retry_after_s)
            )


def _by_model(counts: dict[str, int]) -> dict[str, int]:
    by_model: dict[str, int] = {}
    for key, count in counts.items():
        model, _ = parse_waiting_key(key)
        by_model[model] = by_model.get(model, 0) + count
    return by_model


def _priority(admission: Admission) -> int:
    """The key's, or a later one that the request asks for."""
    wanted = admission.fields.priority
    return (
        max(admission.principal.priority, wanted)
        if isinstance(wanted, int)
        else (admission.principal.priority)
    )


def waiting_key(model: str, selector: dict[str, str]) -> str:
    """One name for what can run, or cannot, together: a model and the labels of its workers."""
    return "\0".join([model, *(f"{name}={value}" for name, value in sorted(selector.items()))])


def parse_waiting_key(key: str) -> tuple[str, dict[str, str]]:
    model, *labels = key.split("\0")
    return model, dict(label.split("=", 1) for label in labels)
