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
from typing import Final

from .exact_index import ExactIndex
from .prefix_index import NO_MATCH, Match, PrefixIndex
from .profile import Rng, Scorer, Scores
from .recent_work import RecentWork
from .ttft_model import Coefficients, TTFTModels
from .types import EndpointState, RoutingRequest

REQUEST_TOKENS: Final = 256.0
"""Work of a request besides its uncached tokens, as tokens of prefill: its answer."""
ALLOWANCE: Final = 8.0
"""Typical requests that an endpoint may be ahead of the others before it counts as crowded."""
CROWDING_OF_NEW: Final = 4.0
CROWDING_OF_OWN: Final = 0.1
"""How much a turn feels the crowd where its conversation is."""
LEAST_CROWDING: Final = -0.25
"""An endpoint that did nothing lately is preferred by no more than that: it came back, or is new,
and should not make up for all it has missed."""
EVICTION: Final = 2.0
"""Cost of a block that gives way, in blocks to compute: it and what follows it are wanted again."""
USAGE_LIMIT: Final = 0.9
"""KV cache in use by running requests above which new ones wait or push others out."""
MAX_SCORED: Final = 128
"""Endpoints that are scored for one request; of a larger fleet a part is drawn."""
STRAIN: Final = 2.0
"""Whole prompts that it costs when all of it is in use: others are preempted and computed again."""


class CostScorer(Scorer):
    """Negated cost of each endpoint: higher is better."""

    def __init__(
        self,
        *,
        index: PrefixIndex,
        exact_index: ExactIndex | None,
        ttft: TTFTModels,
        rng: Rng,
        reason: str,
        is_learning: bool = True,
    ) -> None:
        """`is_learning`: `ttft` is told what happens, so it finds out what a weight means."""
        self.reason = reason
        self.work = RecentWork()
        self._index = index
        self._exact = exact_index
        self._ttft = ttft
        self._rng = rng
        self._is_learning = is_learning
        self._last = Costs((), 0, 0.0, 0.0, is_learning)

    def score(self, request: RoutingRequest, states: Sequence[EndpointState], now: float) -> Costs:
        hashes = request.prefix_hashes
        per_hash = request.tokens_per_hash
        prompt = request.num_prompt_tokens or len(hashes) * per_hash
        # At least one token is always computed: the first token of the answer comes of it.
        most = prompt - 1 if prompt > 0 else 0
        match = self._index.look_up(hashes) if hashes else NO_MATCH
        blocks: Mapping[str, int] = NOTHING
        block_sizes: Mapping[str, int] = NOTHING
        block_size = request.block_size
        exact = self._exact
        if exact is not None and exact.block_sizes and request.block_hashes:
            blocks = exact.matched(request.block_hashes, now)
            block_sizes = exact.block_sizes
        if len(states) > MAX_SCORED:
            states = self._some(states, match, blocks)
        ttft = self._ttft
        if now >= ttft.refresh_at:
            ttft.refresh(now)
        default = ttft.default
        full_s = default.base_s + default.token_s * prompt

        # From here on written out: a call or a list for each of four endpoints would double it.
        is_learning = self._is_learning
        scored = self._last = Costs(states, prompt, full_s, LEAST_CROWDING * full_s, is_learning)
        learnt, fills, depths = ttft.coefficients, self._index.fill, match[0]
        work = self.work
        works = work.by_endpoint
        values, rows = scored.values, scored.rows
        total_work = 0.0
        for state in states:
            endpoint = state.endpoint
            endpoint_id = endpoint.endpoint_id
            in_flight = float(state.in_flight)
            ahead = float(state.in_flight_prefill_tokens)
            cached = depths.get(endpoint_id, 0) * per_hash
            if block_sizes and block_sizes.get(endpoint_id) == block_size:
                cached = blocks.get(endpoint_id, 0) * block_size
            if cached > most:
                cached = most
            coefficients = learnt.get(endpoint_id, default)
            fill = fills.get(endpoint_id, 0.0)
            if not is_learning:
                in_flight /= endpoint.weight
                ahead /= endpoint.weight
            cost = (
                coefficients.base_s
                + coefficients.token_s * ((prompt - cached) * (1.0 + EVICTION * fill) + ahead)
                + coefficients.running_s * in_flight
            )
            metrics = state.metrics
            if metrics.num_requests_waiting:
                cost += coefficients.waiting_s * metrics.num_requests_waiting
            if metrics.kv_cache_usage > USAGE_LIMIT:
                cost += full_s * strain(metrics.kv_cache_usage)
            done = works.get(endpoint_id, 0.0)
            total_work += done
            values.append(-cost)
            rows.append((cached, coefficients, fill, done))

        mean_work = total_work / len(values)
        allowed = mean_work + ALLOWANCE * work.typical * work.scale(now)
        if allowed:
            rate = full_s * (CROWDING_OF_OWN if match[1] else CROWDING_OF_NEW) / allowed
            least = scored.least_crowding_s
            scored.mean_work = mean_work
            scored.crowding_rate_s = rate
            for place, (_, _, _, done) in enumerate(rows):
                crowding_s = (done - mean_work) * rate
                values[place] -= crowding_s if crowding_s > least else least
        return scored

    def chosen(self, place: int, now: float) -> None:
        """Remember the work, in seconds of an endpoint of weight 1."""
        scored = self._last
        cached, coefficients, _, _ = scored.rows[place]
        endpoint = scored.states[place].endpoint
        tokens = scored.prompt - cached + REQUEST_TOKENS
        seconds = coefficients.base_s + coefficients.token_s * tokens
        self.work.add(endpoint.endpoint_id, seconds / endpoint.weight, now)

    def _some(
        self, states: Sequence[EndpointState], match: Match, blocks: Mapping[str, int]
    ) -> Sequence[EndpointState]:
        """Of a very large fleet: those with the longest match, and others by lot.

        The best of so many drawn is nearly the best of all, as with two of many (Mitzenmacher).
        """
        known = self._index.deepest(match, MAX_SCORED // 2)
        if blocks:
            deepest = max(blocks.values())
            exact = [endpoint_id for endpoint_id, depth in blocks.items() if depth == deepest]
            known = {*known, *exact[: MAX_SCORED // 2]}
        number = len(states)
        random = self._rng.random
        places = {int(random() * number) for _ in range(MAX_SCORED // 2)}
        if known:
            places.update(
                place for place, state in enumerate(states) if state.endpoint.endpoint_id in known
            )
        return [states[place] for place in places]


class Costs(Scores):
    """The scores of one decision, with what they are made of."""

    __slots__ = (
        "crowding_rate_s", "full_s", "is_learning", "least_crowding_s", "mean_work", "prompt",
        "rows",
    )  # fmt: skip

    def __init__(
        self,
        states: Sequence[EndpointState],
        prompt: int,
        full_s: float,
        least_crowding_s: float,
        is_learning: bool,
    ) -> None:
        super().__init__(states, [])
        self.is_learning = is_learning
        self.prompt = prompt
        self.full_s = full_s
        self.least_crowding_s = least_crowding_s
        self.mean_work = 0.0
        self.crowding_rate_s = 0.0
        self.rows: list[tuple[int, Coefficients, float, float]] = []
        """Of each: cached tokens, coefficients, fill of its cache, recent work."""

    def cached_tokens(self, place: int) -> int:
        """Prompt tokens that are expected to be there."""
        return self.rows[place][0]

    def explain(self, place: int) -> dict[str, float]:
        """The parts of the cost."""
        state = self.states[place]
        cached, coefficients, fill, done = self.rows[place]
        weight = 1.0 if self.is_learning else state.endpoint.weight
        uncached = self.prompt - cached
        crowding_s = (done - self.mean_work) * self.crowding_rate_s
        return {
            "uncached_tokens": uncached,
            "prefill_s": coefficients.base_s + coefficients.token_s * uncached,
            "queue_s": coefficients.token_s * state.in_flight_prefill_tokens / weight
            + coefficients.waiting_s * state.metrics.num_requests_waiting,
            "running_s": coefficients.running_s * state.in_flight / weight,
            "kv_pressure_s": coefficients.token_s * uncached * EVICTION * fill
            + self.full_s * strain(state.metrics.kv_cache_usage),
            "crowding_s": max(crowding_s, self.least_crowding_s),
        }


NOTHING: Final[Mapping[str, int]] = {}


def strain(kv_cache_usage: float) -> float:
    """0 up to `USAGE_LIMIT`, then linear to `STRAIN` at 1."""
    return STRAIN * max(0.0, kv_cache_usage - USAGE_LIMIT) / (1.0 - USAGE_LIMIT)
