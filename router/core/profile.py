"""One decision, start to end: filter, score, pick, and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from typing import Final, Protocol, overload

from .filters import eligible, ramp
from .types import Candidate, Decision, EndpointState, RoutingRequest, Shortage


class Rng(Protocol):
    """`random.Random` fits; a test passes a list of numbers in disguise."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...


class Scores:
    """What a scorer thinks of endpoints."""

    __slots__ = ("states", "values")

    def __init__(self, states: Sequence[EndpointState], values: list[float]) -> None:
        self.states = states
        """Those that were scored: all that were shown, or a part of a very large fleet."""
        self.values = values
        """Higher is better."""

    def explain(self, place: int) -> Mapping[str, float]:
        """Named parts of the score at a place; asked when somebody reads the decision."""
        raise NotImplementedError

    def cached_tokens(self, place: int) -> int:
        """Prompt tokens the endpoint is expected to have cached; 0 from those who do not look."""
        return 0


class LoadScores(Scores):
    """Of scorers that look at no cache."""

    __slots__ = ("_explain",)

    def __init__(
        self,
        states: Sequence[EndpointState],
        values: list[float],
        explain: Callable[[int], Mapping[str, float]],
    ) -> None:
        super().__init__(states, values)
        self._explain = explain

    def explain(self, place: int) -> Mapping[str, float]:
        """See `Scores`."""
        return self._explain(place)


class Scorer:
    """How good each endpoint is for a request."""

    reason: str = ""
    """What the best has most of, for people: "fewest requests in flight"."""

    def score(self, request: RoutingRequest, states: Sequence[EndpointState], now: float) -> Scores:
        """Of endpoints that may all take the request; there is one at least."""
        raise NotImplementedError

    def chosen(self, place: int, now: float) -> None:
        """The request that was scored last goes to the endpoint at this place."""


class Picker:
    """Which place of the scores wins."""

    def pick(self, values: list[float], rng: Rng) -> int:
        """There is one value at least."""
        raise NotImplementedError


SHORTAGE_REASONS: Final = {
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
        """Where the request goes; the policy counts on it being sent there."""
        states, rejected, shortage, is_ramping = eligible(
            request, endpoints, now - self.slow_start_s
        )
        if shortage is not None:
            return Decision(None, SHORTAGE_REASONS[shortage], self.name, (), 0, rejected, shortage)
        if is_ramping:
            states = self._hold_back(states, rejected, now)
        scorer = self.scorer
        scores = scorer.score(request, states, now)
        values = scores.values
        place = self.picker.pick(values, self.rng) if len(values) > 1 else 0
        scorer.chosen(place, now)
        return Decision(
            scores.states[place].endpoint,
            scorer.reason,
            self.name,
            BestThree(scores, place),
            scores.cached_tokens(place),
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


class BestThree(Sequence[Candidate]):
    """The candidates of a decision, the picked one first; made when somebody looks at them."""

    __slots__ = ("_made", "_place", "_scores")

    def __init__(self, scores: Scores, place: int) -> None:
        self._scores = scores
        self._place = place
        self._made: tuple[Candidate, ...] | None = None

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return self._make()[index]

    def __len__(self) -> int:
        return min(3, len(self._scores.values))

    def _make(self) -> tuple[Candidate, ...]:
        if self._made is None:
            values = self._scores.values
            others = (place for place in range(len(values)) if place != self._place)
            best = [self._place, *nlargest(2, others, key=values.__getitem__)]
            self._made = tuple(
                Candidate(
                    self._scores.states[place].endpoint.endpoint_id,
                    values[place],
                    self._scores.explain(place),
                )
                for place in best
            )
        return self._made
