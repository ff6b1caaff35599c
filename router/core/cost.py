"""The cost of sending a request somewhere, in seconds until its first token.

    cost = base + token_s * (uncached + ahead)   prefill, its own and what is in front of it
         + running_s * in_flight                 the decodes that share the machine
         + waiting_s * num_waiting               the worker's own queue
         + token_s * uncached * fill             what gives way in a full cache has to come back
         + full_s * strain                       a KV cache that running requests fill
         + full_s * crowding                     what keeps a crowd from one place

Each `*_s` is learnt (`ttft_model.py`); `full_s` is the time of the whole prompt on an average idle
endpoint. The last term is what cache-aware routers lack. When all prompts begin with one system
prompt, the first worker that has it is cheapest for every new conversation, and ever after: it gets
them all. So its recent work, as far as it is above the fleet's mean and an allowance, counts as a
share of the whole prompt. Another endpoint then computes the system prompt for itself, once, and
new conversations spread. A turn of a conversation that is already somewhere hardly feels the
term: its whole past is there. Which is which the prefix index knows: where the deepest match is
one conversation's own, this is its next turn (`PrefixIndex.look_up`). Preble (Srivatsa et al.,
2024) weighs the use of a cache against the spread of load by the length of the match; a long
system prompt looks like a conversation to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .exact_index import ExactIndex
from .prefix_index import PrefixIndex
from .profile import Scores
from .recent_work import RecentWork
from .ttft_model import TTFTModels
from .types import EndpointState, RoutingRequest

REQUEST_TOKENS = 256.0
"""Work of a request besides its uncached tokens, as tokens of prefill: its answer."""
ALLOWANCE = 2.0
"""Typical requests that an endpoint may be ahead of the others before it counts as crowded."""
CROWDING_OF_NEW = 1.0
CROWDING_OF_OWN = 0.1
"""How much a turn feels the crowd where its conversation is."""
LEAST_CROWDING = -0.25
"""An endpoint that did nothing lately is preferred by no more than that: it came back, or is new,
and should not make up for all it has missed."""
EVICTION = 1.0
"""Cost of a block that gives way, in blocks to compute: most are wanted again."""
USAGE_LIMIT = 0.9
"""KV cache in use by running requests above which new ones wait or push others out."""
STRAIN = 2.0
"""Whole prompts that it costs when all of it is in use: others are preempted and computed again."""


class CostScorer:
    """Negated cost of each endpoint: higher is better."""

    def __init__(
        self,
        *,
        index: PrefixIndex,
        exact_index: ExactIndex | None,
        ttft: TTFTModels,
        reason: str,
    ) -> None:
        self.reason = reason
        self.work = RecentWork()
        self._index = index
        self._exact = exact_index
        self._ttft = ttft
        self._last: tuple[Sequence[EndpointState], list[int]] = ((), [])

    def score(self, request: RoutingRequest, states: Sequence[EndpointState], now: float) -> Scores:
        ttft = self._ttft
        ttft.refresh(now)
        prompt, cached, own = self._cached_tokens(request, states, now)
        default = ttft.default
        full_s = default.base_s + default.token_s * prompt
        work, mean_work, crowding_s = self._crowding(states, now)
        crowding_s *= full_s * (CROWDING_OF_OWN if own else CROWDING_OF_NEW)
        least = LEAST_CROWDING * full_s
        coefficients = ttft.coefficients
        fills = self._index.fill
        values = []
        for state, in_cache, done in zip(states, cached, work, strict=True):
            endpoint_id = state.endpoint.endpoint_id
            base_s, token_s, running_s, waiting_s = coefficients.get(endpoint_id, default)
            uncached = prompt - in_cache
            fill = fills.get(endpoint_id, 0.0)
            cost = (
                base_s
                + token_s * (uncached * (1.0 + EVICTION * fill) + state.in_flight_prefill_tokens)
                + running_s * state.in_flight
            )
            metrics = state.metrics
            if metrics.num_requests_waiting:
                cost += waiting_s * metrics.num_requests_waiting
            if metrics.kv_cache_usage > USAGE_LIMIT:
                cost += full_s * strain(metrics.kv_cache_usage)
            crowd = (done - mean_work) * crowding_s
            values.append(-cost - (crowd if crowd > least else least))

        def explain(place: int) -> Mapping[str, float]:
            state = states[place]
            endpoint_id = state.endpoint.endpoint_id
            base_s, token_s, running_s, waiting_s = coefficients.get(endpoint_id, default)
            uncached = prompt - cached[place]
            return {
                "uncached_tokens": uncached,
                "prefill_s": base_s + token_s * uncached,
                "queue_s": token_s * state.in_flight_prefill_tokens
                + waiting_s * state.metrics.num_requests_waiting,
                "running_s": running_s * state.in_flight,
                "kv_pressure_s": token_s * uncached * EVICTION * fills.get(endpoint_id, 0.0)
                + full_s * strain(state.metrics.kv_cache_usage),
                "crowding_s": max((work[place] - mean_work) * crowding_s, least),
            }

        self._last = (states, [prompt - in_cache for in_cache in cached])
        return Scores(values, explain, cached)

    def chosen(self, place: int, now: float) -> None:
        """Remember the work, in seconds of an endpoint of weight 1."""
        states, uncached = self._last
        endpoint = states[place].endpoint
        own = self._ttft.coefficients.get(endpoint.endpoint_id, self._ttft.default)
        seconds = own.base_s + own.token_s * (uncached[place] + REQUEST_TOKENS)
        self.work.add(endpoint.endpoint_id, seconds / endpoint.weight, now)

    def _cached_tokens(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> tuple[int, list[int], bool]:
        """Tokens of the prompt, those that each endpoint has, and whether it is a next turn.

        At least one token is always computed: it makes the first token of the answer.
        """
        hashes = request.prefix_hashes
        per_hash = request.tokens_per_hash
        prompt = request.num_prompt_tokens or len(hashes) * per_hash
        depths, own = self._index.look_up(hashes) if hashes else (NOTHING, False)
        most = prompt - 1 if prompt > 0 else 0
        exact = self._exact
        block_size = request.block_size
        if exact is None or not exact.block_sizes or not request.block_hashes:
            if not depths:
                return prompt, [0] * len(states), own
            get = depths.get
            cached = [get(state.endpoint.endpoint_id, 0) * per_hash for state in states]
        else:
            blocks = exact.matched(request.block_hashes, now)
            block_sizes = exact.block_sizes
            cached = []
            for state in states:
                endpoint_id = state.endpoint.endpoint_id
                if block_sizes.get(endpoint_id) == block_size:
                    cached.append(blocks.get(endpoint_id, 0) * block_size)
                else:
                    cached.append(depths.get(endpoint_id, 0) * per_hash)
        return prompt, [tokens if tokens < most else most for tokens in cached], own

    def _crowding(
        self, states: Sequence[EndpointState], now: float
    ) -> tuple[list[float], float, float]:
        """Recent work of each, the mean, and what one unit above it counts."""
        work = self.work
        scale = work.scale(now)
        get = work.by_endpoint.get
        done = [get(state.endpoint.endpoint_id, 0.0) for state in states]
        mean = sum(done) / len(done)
        allowed = mean + ALLOWANCE * work.typical * scale
        return done, mean, 1.0 / allowed if allowed else 0.0


NOTHING: Mapping[str, int] = {}


def strain(kv_cache_usage: float) -> float:
    """0 up to `USAGE_LIMIT`, then linear to `STRAIN` at 1."""
    return STRAIN * max(0.0, kv_cache_usage - USAGE_LIMIT) / (1.0 - USAGE_LIMIT)
