"""One scaler on one load, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

from .arriving import arrive
from .event_loop import EventLoop
from .fleet import Fleet, Slo, StartUp
from .policies.policy import Policy
from .replica import ReplicaSpec
from .request import SimRequest

MINUTE_S = 60.0
FILLS_S = 30.0
"""A load begins in empty replicas: what is seen before they have filled is not the load yet. For so
long nothing is changed, whoever scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load and the fleet it meets."""

    name: str
    requests: list[SimRequest]
    replica: ReplicaSpec = field(default_factory=ReplicaSpec)
    start_up: StartUp = field(default_factory=StartUp)
    slo: Slo = field(default_factory=Slo)
    first_replicas: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    policy: str
    attainment: float
    """Share of all requests that met the SLO; one that never ended did not."""
    replica_hours: float
    ttft_p50_s: float
    ttft_p99_s: float
    changes: int
    """How often the number of replicas was changed."""
    turns: int
    """How often it went the other way than the time before: flapping."""
    series: list[tuple[float, int, int, float]]
    """(seconds, replicas that exist, ready, arrivals per second), one a tick."""
    met: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, share that met the SLO) of the requests that came in each minute."""


def simulate(scenario: Scenario, policy: Policy) -> Outcome:
    """Until the last request has ended, an hour at most after it came."""
    loop = EventLoop()
    fleet = Fleet(
        loop, spec=scenario.replica, start_up=scenario.start_up, slo=scenario.slo,
        seed=scenario.seed,
    )  # fmt: skip
    requests = [request.anew() for request in scenario.requests]
    left = len(requests)

    def finished(_: SimRequest) -> None:
        nonlocal left
        left -= 1

    fleet.on_finished = finished
    fleet.scale_to(scenario.first_replicas, at_once=True)
    arrive(loop, requests, fleet.submit)
    end = requests[-1].arrival_s
    series: list[tuple[float, int, int, float]] = []
    changes = turns = direction = 0
    desired = scenario.first_replicas

    def tick() -> None:
        nonlocal desired, changes, turns, direction
        observation = fleet.observe(policy.interval_s)
        wanted = policy.desired(observation, loop.now())
        if wanted != desired and loop.now() > FILLS_S:
            step = 1 if wanted > desired else -1
            changes += 1
            turns += direction == -step
            direction, desired = step, wanted
            fleet.scale_to(wanted)
        rate = (observation.arrivals or 0) / policy.interval_s
        series.append((loop.now(), fleet.num_replicas, fleet.num_ready, rate))
        if loop.now() < end or (left and loop.now() < end + 3600):
            loop.at(loop.now() + policy.interval_s, tick)

    loop.at(policy.interval_s, tick)
    loop.run(end)
    fleet.count_to_now()
    hours = fleet.replica_s / 3600  # costs are those of the load's own time
    loop.run()
    ttfts = sorted(r.ttft_s if r.ttft_s is not None else 3600.0 for r in requests)
    return Outcome(
        policy=policy.name,
        attainment=sum(scenario.slo.is_met(r) for r in requests) / len(requests),
        replica_hours=hours,
        ttft_p50_s=ttfts[len(ttfts) // 2],
        ttft_p99_s=ttfts[int(len(ttfts) * 0.99)],
        changes=changes,
        turns=turns,
        series=series,
        met=_met_by_minute(requests, scenario.slo),
    )


def _met_by_minute(requests: list[SimRequest], slo: Slo) -> list[tuple[float, float]]:
    counts: dict[int, tuple[int, int]] = {}
    for request in requests:
        key = int(request.arrival_s / MINUTE_S)
        total, met = counts.get(key, (0, 0))
        counts[key] = (total + 1, met + slo.is_met(request))
    return [((key + 0.5) * MINUTE_S, met / total) for key, (total, met) in counts.items()]
