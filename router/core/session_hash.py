"""Sessions stay where they are: consistent hashing with bounded loads.

Consistent hashing by weighted rendezvous (Thaler and Ravishankar, 1998; weights as in Schindelhauer
and Schomaker, 2005): every endpoint draws a number in (0, 1) from the hash of session and endpoint,
raised to 1 / weight, and the largest wins. There is no ring to build when endpoints change: one
that leaves gives up only its own sessions, one that joins takes its share from all alike. Loads
are bounded as in Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads"
(2016): an endpoint with more than `LOAD_BOUND` times its share of the requests in flight is
passed over, and the session goes to its next best.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from .filters import ramp
from .profile import LoadScores, Scorer
from .scorers import FreeScorer
from .types import EndpointState, RoutingRequest

LOAD_BOUND: Final = 1.25
"""Times its share of the requests in flight that an endpoint may have and still get more."""
MIN_BOUND: Final = 4.0
"""Requests in flight that are never too many, times the weight: a quiet fleet moves no session."""
MASK: Final = (1 << 64) - 1
TO_UNIT: Final = 2.0**-53
MAX_SEEDS = 65_536


def hash64(text: str) -> int:
    """The same in all processes, unlike `hash`."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class SessionScorer(Scorer):
    """What each endpoint draws for the session, in (0, 1); less 1 where its load is over the bound.

    A request without a session goes where the fewest are in flight. An endpoint in its slow start
    counts with the weight it has reached, so that sessions come to it one after the other.
    """

    def __init__(self, *, slow_start_s: float = 0.0) -> None:
        self.slow_start_s = slow_start_s
        self.reason = "home of the session"
        self._free = FreeScorer()
        self._seeds: dict[str, int] = {}

    def score(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> LoadScores:
        if request.session_id is None:
            self.reason = "no session: " + self._free.reason
            return self._free.score(request, states, now)
        self.reason = "home of the session"
        session = hash64(request.session_id)
        newest = now - self.slow_start_s
        weights = []
        in_flight_all = 0
        for state in states:
            weight = state.endpoint.weight
            ready_since = state.ready_since
            if ready_since is not None and ready_since > newest:
                weight *= ramp(state, now, self.slow_start_s)
            weights.append(weight)
            in_flight_all += state.in_flight
        bound = LOAD_BOUND * (in_flight_all + 1) / sum(weights)
        get_seed = self._seeds.get
        values = []
        for state, weight in zip(states, weights, strict=True):
            endpoint = state.endpoint
            seed = get_seed(endpoint.endpoint_id) or self._new_seed(endpoint.endpoint_id)
            # Two rounds of multiply and fold, after the finalizer of MurmurHash3 (Appleby).
            mixed = (session ^ seed) * 0xFF51AFD7ED558CCD & MASK
            mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & MASK
            value = ((mixed >> 11) + 0.5) * TO_UNIT
            if weight != 1.0:
                value **= 1.0 / weight
            in_flight = state.in_flight
            if in_flight >= bound * weight and in_flight >= MIN_BOUND * endpoint.weight:
                value -= 1.0
            values.append(value)
        return LoadScores(
            states,
            values,
            lambda place: {"in_flight": states[place].in_flight, "weight": weights[place]},
        )

    def chosen(self, place: int, now: float) -> None:
        """Nothing to remember: that is the beauty of it."""

    def _new_seed(self, endpoint_id: str) -> int:
        if len(self._seeds) >= MAX_SEEDS:
            self._seeds.clear()
        seed = self._seeds[endpoint_id] = hash64(endpoint_id)
        return seed
