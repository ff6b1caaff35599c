"""What experience says about the endpoints, and what decides by it.

Breakers, learnt limits of concurrency, models of the time to first token, and the prefix indexes:
all pure objects of the core. Here they are told what happened, and asked. An endpoint that is gone,
or that another process has replaced, is forgotten by all of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from ..core.circuit_breaker import BreakerBoard, BreakerSettings, FailureKind
from ..core.concurrency_limit import ConcurrencyLimit
from ..core.exact_index import ExactIndex
from ..core.policies import make_policy
from ..core.prefix_index import PrefixIndex
from ..core.profile import Profile
from ..core.ttft_model import TTFTModels
from ..core.types import BreakerState, EndpointStatus
from ..messages import EndpointRecord, KVBlocks
from ..prefix_hash import TOKENS_PER_CHUNK
from ..settings.config import RouterConfig
from ..settings.protection import BreakerConfig
from .attempt import Attempt, Failure

if TYPE_CHECKING:
    from .admission import Admission
    from .exchange import Exchange
    from .gateway import Gateway

OUTLIERS_EVERY_S: Final = 5.0
_log = structlog.get_logger(__name__)
_PREFIX_POLICIES: Final = frozenset({"cost", "prefix", "prefix_exact"})
_BLAME: Final = {
    Failure.CONNECT: FailureKind.CONNECT,
    Failure.LOST: FailureKind.RESET,
    Failure.TIMEOUT: FailureKind.TIMEOUT,
    Failure.STATUS: FailureKind.STATUS,
}


class Experience:
    """Of one data-plane process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.index = PrefixIndex()
        self.exact_index = ExactIndex()
        self.ttft = TTFTModels()
        self.board = BreakerBoard(_breaker_settings(gateway.config.breaker))
        self.concurrency = ConcurrencyLimit(on_change=self._limit_changed)
        self._breakers: Mapping[str, BreakerState] = {}
        self._policies: dict[str, Profile] = {}
        self._rng = random.Random()
        self._outliers_at = 0.0

    # Configuration and fleet.

    def configure(self, old: RouterConfig, new: RouterConfig) -> None:
        """What is learnt under settings that have changed begins again."""
        if new.breaker != old.breaker:
            self.board = BreakerBoard(_breaker_settings(new.breaker))
            self._breakers = {}
        if new.flow_control != old.flow_control:
            self.concurrency = ConcurrencyLimit(
                min_limit=new.flow_control.min_concurrency,
                max_limit=new.flow_control.max_concurrency,
                on_change=self._limit_changed,
            )
        if new.routing.max_index_blocks != old.routing.max_index_blocks:
            self.index = PrefixIndex(max_blocks=new.routing.max_index_blocks)
        self._policies.clear()

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or another process answers at its address."""
        for learnt in (self.board, self.concurrency, self.ttft, self.index, self.exact_index):
            learnt.forget(endpoint_id)

    def take_record(self, record: EndpointRecord, now: float) -> None:
        endpoint_id = record.endpoint_id
        if record.num_cache_tokens:
            self.index.set_capacity(endpoint_id, record.num_cache_tokens // TOKENS_PER_CHUNK)
        if record.kv_block_size:
            self.exact_index.register(endpoint_id, record.kv_block_size)
        if record.scraped_age_s is not None:
            self.concurrency.on_scrape(
                endpoint_id, record.num_requests_running, record.num_requests_waiting, now
            )
        if record.status == EndpointStatus.READY:
            self.board.healthy(endpoint_id, now)
        elif record.status == EndpointStatus.UNHEALTHY:
            self.board.unhealthy(endpoint_id)

    def take_blocks(self, blocks: KVBlocks) -> None:
        """Changes of a worker's prefix cache."""
        if blocks.cleared:
            self.exact_index.clear(blocks.endpoint_id)
        if blocks.removed:
            self.exact_index.remove(blocks.endpoint_id, blocks.removed)
        if blocks.stored:
            self.exact_index.store(blocks.endpoint_id, blocks.stored)

    # Asked.

    def policy(self, name: str | None) -> Profile:
        name = name or self._gateway.config.routing.policy
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = make_policy(
                name,
                index=self.index,
                exact_index=self.exact_index,
                ttft=self.ttft,
                rng=self._rng,
                slow_start_s=self._gateway.config.routing.slow_start_s,
            )
        return policy

    def uses_prefixes(self, policy: str | None) -> bool:
        return (policy or self._gateway.config.routing.policy) in _PREFIX_POLICIES

    def breaker_state(self, endpoint_id: str) -> BreakerState:
        return self._breakers.get(endpoint_id, BreakerState.CLOSED)

    def concurrency_limit(self, endpoint_id: str) -> int:
        if not self._gateway.config.flow_control.adaptive_concurrency:
            return self._gateway.config.flow_control.max_concurrency
        return self.concurrency.limit(endpoint_id)

    # Told.

    def sent(self, endpoint_id: str, admission: Admission, now: float) -> None:
        """A request goes there: it is a probe, maybe, and the prompt will be in the cache."""
        self.board.begin(endpoint_id, now)
        if admission.block_hashes and endpoint_id in self.exact_index.block_sizes:
            self.exact_index.expect(endpoint_id, admission.block_hashes, now)
        hashes = admission.prefix_hashes
        if hashes:
            self.index.record(endpoint_id, hashes)
            if self._gateway.config.listen.processes > 1:
                self._gateway.routed.append((endpoint_id, list(hashes)))

    def note_failure(self, attempt: Attempt, failure: Failure) -> None:
        """An attempt failed: who is to blame, and what is learnt."""
        now, endpoint_id = self._gateway.now(), attempt.endpoint_id
        kind = _BLAME.get(failure)
        if kind is not None:
            self.board.failure(endpoint_id, now, kind)
            self.refresh_breakers(now)
        elif failure is Failure.BUSY:
            self.board.abandon(endpoint_id, now)
            self.concurrency.on_backpressure(endpoint_id, attempt.in_flight + 1, now)
        else:
            self.board.abandon(endpoint_id, now)
        if failure is Failure.CONNECT:
            self._gateway.metrics.endpoint(endpoint_id).connected(False)

    def note_first_byte(self, exchange: Exchange, attempt: Attempt) -> None:
        """An answer has begun."""
        head, admission = attempt.head, exchange.admission
        assert head is not None
        assert admission is not None
        now, endpoint_id = self._gateway.now(), attempt.endpoint_id
        if head.status < 500 and head.status != 429:
            self.board.success(endpoint_id, now)
        if head.status != 200 or not admission.wants_stream:
            return
        model = self._gateway.metrics.model(admission.served_model)
        model.began(now - exchange.request.arrived_at)
        ttft_s = now - attempt.started_at
        seen, decision = attempt.seen, attempt.decision
        uncached = max(0, admission.num_prompt_tokens - decision.num_cached_tokens)
        self.ttft.observe(
            endpoint_id,
            ttft_s,
            uncached_tokens=uncached,
            tokens_ahead=seen.in_flight_prefill_tokens,
            num_running=seen.in_flight,
            num_waiting=seen.metrics.num_requests_waiting,
            now=now,
        )
        self.concurrency.on_response(endpoint_id, ttft_s, uncached, seen.in_flight + 1, now)

    def note_end(self, attempt: Attempt, duration_s: float) -> None:
        """An answer is whole, `duration_s` after its request was sent."""
        self.ttft.finished(attempt.endpoint_id, duration_s)

    def refresh_breakers(self, now: float) -> None:
        """Bring the states of breakers into the endpoints' states."""
        changed = self.board.changed(now)
        if not changed and not self._breakers:
            return
        fleet = self._gateway.fleet
        before = self._breakers
        self._breakers = self.board.effective_states(self._members(), now)
        for endpoint_id in before.keys() | self._breakers.keys():
            if before.get(endpoint_id) is not self._breakers.get(endpoint_id):
                fleet.refresh(endpoint_id)
                state = self.breaker_state(endpoint_id)
                self._gateway.metrics.endpoint(endpoint_id).breaker = str(state)
                self._gateway.dispatcher.wake()

    def eject_outliers(self, now: float) -> None:
        """Now and then: endpoints that fail more often than the others of their model."""
        if now < self._outliers_at:
            return
        self._outliers_at = now + OUTLIERS_EVERY_S
        for endpoint_id in self.board.eject_outliers(self._members(), now):
            _log.warning("endpoint.outlier", endpoint=endpoint_id)

    def _members(self) -> dict[str, list[str]]:
        """endpoint_ids by model."""
        fleet = self._gateway.fleet
        return {
            model: [state.endpoint.endpoint_id for state in fleet.serving(model)]
            for model in fleet.models
        }

    def _limit_changed(self, endpoint_id: str, limit: int) -> None:
        self._gateway.fleet.refresh(endpoint_id)
        self._gateway.dispatcher.wake()


def _breaker_settings(breaker: BreakerConfig) -> BreakerSettings:
    return BreakerSettings(
        breaker.consecutive_failures,
        breaker.failure_ratio,
        breaker.min_requests,
        breaker.window_s,
        breaker.open_s,
        breaker.max_open_s,
        breaker.max_ejected_ratio,
    )
