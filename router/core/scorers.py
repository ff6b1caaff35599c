"""Scorers that look at load and weight alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .profile import LoadScores, Scorer
from .types import EndpointState, RoutingRequest


class FreeScorer(Scorer):
    """Fewest requests in flight for its weight: 1 / (1 + in_flight / weight), in (0, 1].

    What this router sent, not what the worker said a second ago: old figures make herds.
    """

    reason = "fewest requests in flight"

    def score(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> LoadScores:
        return LoadScores(
            states,
            [state.endpoint.weight / (state.endpoint.weight + state.in_flight) for state in states],
            lambda place: {
                "in_flight": states[place].in_flight,
                "weight": states[place].endpoint.weight,
            },
        )

    def chosen(self, place: int, now: float) -> None:
        """Nothing to remember."""


class WeightScorer(Scorer):
    """The weight itself, over that of all: the share each should have."""

    reason = "drawn by weight"

    def score(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> LoadScores:
        weights = [state.endpoint.weight for state in states]
        total = sum(weights)
        return LoadScores(
            states, [weight / total for weight in weights], lambda place: {"weight": weights[place]}
        )

    def chosen(self, place: int, now: float) -> None:
        """Nothing to remember."""


class TurnScorer(Scorer):
    """Whose turn it is: smooth weighted round robin, as in nginx.

    At each decision every endpoint earns its weight, and the one chosen pays what all earned; so
    the credits sum to 0, and turns are spread evenly: weights 5, 1, 1 give a a b a c a a. Credits
    are kept per model, since models take turns independently.
    """

    reason = "its turn"

    def __init__(self) -> None:
        self._credits: dict[str, dict[str, float]] = {}
        self._turn: tuple[Sequence[EndpointState], dict[str, float], float] = ((), {}, 0.0)

    def score(
        self, request: RoutingRequest, states: Sequence[EndpointState], now: float
    ) -> LoadScores:
        credits = self._credits.get(request.model)
        if credits is None:
            if len(self._credits) >= MAX_MODELS:
                self._credits.clear()
            credits = self._credits[request.model] = {}
        elif len(credits) > 2 * len(states) + 64:
            # Endpoints come and go: keep those that are here.
            here = {state.endpoint.endpoint_id for state in states}
            for endpoint_id in credits.keys() - here:
                del credits[endpoint_id]
        values = []
        total = 0.0
        for state in states:
            endpoint = state.endpoint
            weight = endpoint.weight
            total += weight
            # Credit saved up by one that was away for long would be a run of turns.
            credit = credits.get(endpoint.endpoint_id, 0.0) + weight
            credits[endpoint.endpoint_id] = credit
            values.append(credit)
        self._turn = (states, credits, total)
        return LoadScores(states, values, lambda place: {"credit": values[place]})

    def chosen(self, place: int, now: float) -> None:
        states, credits, total = self._turn
        credits[states[place].endpoint.endpoint_id] -= total


MAX_MODELS: Final = 1024
"""Models whose turns are remembered; more than that and all start over."""
