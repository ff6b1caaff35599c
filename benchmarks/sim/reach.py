"""What an objective can be met for: no number of replicas is faster than one that is idle."""

from __future__ import annotations

from shoal.errors import ConfigError

from .event_loop import EventLoop
from .replica import Replica
from .request import SimRequest
from .simulate import Scenario


def share_in_reach(scenario: Scenario) -> float:
    """Of the load's requests, those that meet the objective on a replica of their own."""
    loop = EventLoop()
    coming = iter(scenario.requests)
    num_met = 0

    def submit() -> None:
        if (like := next(coming, None)) is not None:
            lengths = like.num_input_tokens, like.num_output_tokens, like.num_cached_tokens
            replica.add(SimRequest(loop.now(), *lengths))

    def finished(request: SimRequest) -> None:
        nonlocal num_met
        num_met += scenario.slo.is_met(request)
        loop.at(loop.now(), submit)

    replica = Replica(loop, scenario.replica, first_token=lambda _: None, finished=finished)
    submit()
    loop.run()
    return num_met / len(scenario.requests)


def require_in_reach(scenario: Scenario, attainment: float) -> None:
    """Raises ConfigError where fewer requests than the objective asks for can meet it."""
    if (share := share_in_reach(scenario)) < attainment:
        slo = scenario.slo
        raise ConfigError(
            f"{scenario.name}: on an idle replica {share:.2%} of the requests have their first"
            f" token within {slo.ttft_s:g} s and each further one within {slo.tpot_s:g} s, so no"
            f" number of replicas gives that to {attainment:.0%}; allow more time"
        )
