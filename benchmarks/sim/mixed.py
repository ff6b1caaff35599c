"""Several variants of one model under one load: what the cheapest mix costs beside each alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState

from .arriving import arrive
from .event_loop import EventLoop
from .fleet import Fleet, Slo, StartUp
from .replica import ReplicaSpec
from .request import SimRequest

INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimVariant:
    """A kind of GPU, as it is and as its operator describes it."""

    spec: VariantSpec
    replica: ReplicaSpec
    speed: float
    """Beside the others: a router gives it as many more requests."""
    start_up: StartUp = field(default_factory=StartUp)
    places: tuple[tuple[float, int | None], ...] = ()
    """(second, replicas that there is room for from then on); None: any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedScenario:
    name: str
    requests: list[SimRequest]
    variants: tuple[SimVariant, ...]
    slo: Slo = field(default_factory=Slo)
    attainment: float = 0.99
    first: Mapping[str, int] = field(default_factory=dict)
    """Replicas that are ready at the start; of a variant that is not named, none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedOutcome:
    name: str
    attainment: float
    cost: float
    """Of the load's own time, start-ups and draining included, in the currency of the specs."""
    hours: dict[str, float]
    """Replica hours by variant."""
    tokens_per_cost: float
    """Output tokens."""
    ttft_p99_s: float
    changes: int
    series: list[tuple[float, dict[str, int]]]
    """(second, replicas that exist by variant), one a decision."""


class MixedFleet:
    """A fleet for each variant behind one router, which holds requests while nobody is ready.

    Requests go where the fewest are, measured by speed: as a router does that knows its workers.
    """

    def __init__(self, loop: EventLoop, scenario: MixedScenario) -> None:
        self._held: deque[SimRequest] = deque()
        self._arrivals = self._input_tokens = 0
        self._speeds = {v.spec.name: v.speed for v in scenario.variants}
        self.fleets: dict[str, Fleet] = {}
        for number, variant in enumerate(scenario.variants):
            name = variant.spec.name
            fleet = Fleet(
                loop, spec=variant.replica, start_up=variant.start_up, slo=scenario.slo,
                seed=number, name=name,
            )  # fmt: skip
            fleet.on_ready = self._dispatch
            for at, places in variant.places:
                loop.at(at, partial(fleet.set_places, places))
            self.fleets[name] = fleet

    def submit(self, request: SimRequest) -> None:
        self._arrivals += 1
        self._input_tokens += request.num_input_tokens - request.num_cached_tokens
        self._held.append(request)
        self._dispatch()

    def observe(self) -> Observation:
        arrivals, self._arrivals = self._arrivals, 0
        input_tokens, self._input_tokens = self._input_tokens, 0
        seen = [fleet.observe(INTERVAL_S) for fleet in self.fleets.values()]
        return Observation(
            interval_s=INTERVAL_S, arrivals=arrivals, input_tokens=input_tokens,
            output_tokens=sum(s.output_tokens or 0 for s in seen), queued=0,
            held=len(self._held), variants=tuple(s.variants[0] for s in seen),
        )  # fmt: skip

    def _dispatch(self) -> None:
        while self._held and (fleet := self._least_loaded()):
            fleet.submit(self._held.popleft())

    def _least_loaded(self) -> Fleet | None:
        ready = [
            ((fewest + 1) / self._speeds[name], fleet)
            for name, fleet in self.fleets.items()
            if (fewest := fleet.fewest_requests) is not None
        ]
        return min(ready, key=lambda pair: pair[0])[1] if ready else None


def simulate_mixed(scenario: MixedScenario, name: str) -> MixedOutcome:
    """Shoal's scaler on the load, with all variants of the scenario."""
    loop = EventLoop()
    fleet = MixedFleet(loop, scenario)
    spec = _spec(scenario)
    state = ScalerState.of(spec)
    requests = [request.anew() for request in scenario.requests]
    end = requests[-1].arrival_s
    for variant, number in scenario.first.items():
        fleet.fleets[variant].scale_to(number, at_once=True)
    series: list[tuple[float, dict[str, int]]] = []
    last = dict(scenario.first)
    changes = 0

    def tick() -> None:
        nonlocal changes, last
        decision = decide(spec, fleet.observe(), state, loop.now())
        changes += sum(number != last.get(n, 0) for n, number in decision.desired.items())
        last = decision.desired
        for variant, number in decision.desired.items():
            fleet.fleets[variant].scale_to(number)
        series.append((loop.now(), {n: f.num_replicas for n, f in fleet.fleets.items()}))
        if loop.now() < end:
            loop.at(loop.now() + INTERVAL_S, tick)

    arrive(loop, requests, fleet.submit)
    loop.at(INTERVAL_S, tick)
    loop.run(end)
    for each in fleet.fleets.values():
        each.count_to_now()
    hours = {n: f.replica_s / 3600 for n, f in fleet.fleets.items()}
    loop.run(end + 600.0)
    cost = sum(hours[v.spec.name] * v.spec.cost_per_hour for v in scenario.variants)
    ttfts = sorted(r.ttft_s if r.ttft_s is not None else 3600.0 for r in requests)
    return MixedOutcome(
        name=name,
        attainment=sum(scenario.slo.is_met(r) for r in requests) / len(requests),
        cost=cost,
        hours=hours,
        tokens_per_cost=sum(r.num_output_tokens for r in requests) / cost,
        ttft_p99_s=ttfts[int(len(ttfts) * 0.99)],
        changes=changes,
        series=series,
    )


def compare_mixed(
    scenario: MixedScenario, *, progress: Callable[[str], None] = lambda what: None
) -> list[MixedOutcome]:
    """All variants together, then each alone."""
    outcomes = []
    choices = {"mix": scenario.variants} | {f"{v.spec.name} only": (v,) for v in scenario.variants}
    for name, variants in choices.items():
        progress(name)
        outcomes.append(simulate_mixed(_only(scenario, variants), name))
    return outcomes


def _only(scenario: MixedScenario, variants: tuple[SimVariant, ...]) -> MixedScenario:
    """With these variants; each alone starts with one replica, as it must."""
    names = [v.spec.name for v in variants]
    first = {name: number for name, number in scenario.first.items() if name in names}
    return replace(scenario, variants=variants, first=first or {names[0]: 1})


def _spec(scenario: MixedScenario) -> ScalingSpec:
    return ScalingSpec(
        slo=SloSpec(
            ttft_s=scenario.slo.ttft_s, tpot_s=scenario.slo.tpot_s, attainment=scenario.attainment
        ),
        pace=Pace(start_up_s=max(v.start_up.mean_s for v in scenario.variants)),
        variants=tuple(v.spec for v in scenario.variants),
    )
