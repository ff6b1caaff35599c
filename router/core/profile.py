"""One decision, start to end: filter, score, pick, and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .filters import eligible, ramp
from .types import Candidate, Decision, EndpointState, RoutingRequest, Shortage


class Rng(Protocol):
    """`random.Random` fits; a test passes a list of numbers in disguise."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...


class Scores(NamedTuple):
    """What a scorer thinks of each endpoint it was shown, in their order."""

    values: Sequence[float]
    """Higher is better."""
    explain: Callable[[int], Mapping[str, float]]
    """Named parts of the score at a place: called for the best three only."""
    depths: Sequence[int] | None = None
    """Prompt tokens each is expected to have cached, if the scorer looked."""


class Scorer(Protocol):
    """How good each endpoint is for a request."""

    @property
    def reason(self) -> str:
        """What the best has most of, for people: "fewest requests in flight"."""
        ...

    def score(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> Scores: ...

    def chosen(self, place: int, now: float) -> None:
        """The request that was scored last goes to the endpoint at this place."""
        ...


class Picker(Protocol):
    """Which place of the scores wins."""

    def pick(self, values: Sequence[float], states: Sequence[EndpointState], rng: Rng) -> int: ...


SHORTAGE_REASONS = {
    Shortage.NO_MODEL: "no endpoint serves the model",
    Shortage.STARTING: "the endpoints of the model are starting",
    Shortage.NONE_HEALTHY: "no endpoint of the model is healthy",
    Shortage.ALL_EXCLUDED: "every endpoint of the model has failed this request",
    Shortage.ALL_FULL: "every endpoint of the model is full",
}


class Profile:
    """A policy put together from a scorer and a picker; the filters are the same for all.

    An endpoint in its slow start takes part in as large a share of the decisions as it has reached
    (`ramp`), unless the scorer counts that into its weight itself (`scorer_ramps`).
    """

    def __init__(
        self,
        name: str,
        *,
        scorer: Scorer,
        picker: Picker,
        rng: Rng,
        slow_start_s: float = 0.0,
        scorer_ramps: bool = False,
    ) -> None:
        self.name = name
        self.scorer = scorer
        self.picker = picker
        self.rng = rng
        self.slow_start_s = 0.0 if scorer_ramps else slow_start_s

    def decide(
        self, request: RoutingRequest, endpoints: Sequence[EndpointState], now: float
    ) -> Decision:
        """See `RoutingPolicy`."""
        states, rejected, shortage = eligible(request, endpoints)
        if shortage is not None:
            return Decision(
                None, SHORTAGE_REASONS[shortage], self.name, rejected=rejected, shortage=shortage
            )
        if self.slow_start_s > 0:
            newest = now - self.slow_start_s
            for state in states:
                if state.ready_since is not None and state.ready_since > newest:
                    states = self._hold_back(states, rejected, now)
                    break
        if len(states) == 1:
            picked = 0
            values, explain, depths = self.scorer.score(request, states, now)
        else:
            values, explain, depths = self.scorer.score(request, states, now)
            picked = self.picker.pick(values, states, self.rng)
        chosen = states[picked]
        self.scorer.chosen(picked, now)
        return Decision(
            chosen.endpoint,
            self.scorer.reason,
            self.name,
            tuple(
                [
                    Candidate(states[place].endpoint.endpoint_id, values[place], explain(place))
                    for place in best_three(values, picked)
                ]
            ),
            depths[picked] if depths is not None else 0,
            rejected,
        )

    def _hold_back(
        self, states: Sequence[EndpointState], rejected: dict[str, int], now: float
    ) -> Sequence[EndpointState]:
        """Leave out endpoints that are starting, by chance; those furthest along always stay."""
        ramps = [ramp(state, now, self.slow_start_s) for state in states]
        furthest = max(ramps)
        random = self.rng.random
        kept = [
            state
            for state, reached in zip(states, ramps, strict=True)
            if reached >= furthest or random() * furthest < reached
        ]
        if len(kept) < len(states):
            rejected["slow_start"] = len(states) - len(kept)
        return kept


def best_three(values: Sequence[float], picked: int) -> Sequence[int]:
    """Places of the picked one and of the two best others, best first."""
    number = len(values)
    if number == 1:
        return (picked,)
    second = third = -1
    best = next_best = float("-inf")
    for place, value in enumerate(values):
        if value > next_best and place != picked:
            if value > best:
                third, next_best = second, best
                second, best = place, value
            else:
                third, next_best = place, value
    return (picked, second) if third < 0 else (picked, second, third)
