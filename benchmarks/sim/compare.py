"""Shoal's scaler beside others and beside the bound, on one load.

The others have one number to set, and their users must find it. Here each is given the best of
several, chosen with hindsight: the cheapest that meets the objective on this very load, else the
one that comes nearest to it. Two more lines say what that is worth: what it costs to know all
ahead, and what it costs never to scale.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec

from .clairvoyant import clairvoyant, fixed
from .oracle import CapacityCurve, oracle
from .policies.hpa import Hpa
from .policies.keda import KedaQueue
from .policies.kpa import Kpa
from .policies.policy import Policy
from .policies.shoal_policy import ShoalPolicy
from .reach import require_in_reach
from .simulate import Outcome, Scenario, simulate

ATTAINMENT = 0.99
MAX_REPLICAS = 64

OTHERS: dict[str, tuple[Callable[[float], Policy], tuple[float, ...]]] = {
    "HPA": (partial(Hpa, max_replicas=MAX_REPLICAS), (4, 6, 9, 12, 16, 20, 24, 28, 32)),
    "KPA": (partial(Kpa, max_replicas=MAX_REPLICAS), (4, 6, 9, 12, 16, 20, 24)),
    "KEDA": (partial(KedaQueue, max_replicas=MAX_REPLICAS), (0.5, 1, 2, 5)),
}
"""Makers of scalers, and the targets that are tried for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One load."""

    scenario: str
    num_requests: int
    attainment: float
    """What is asked for."""
    oracle_hours: float
    oracle_series: list[tuple[float, int]]
    shoal: Outcome
    others: dict[str, Outcome]
    """The best of each kind."""
    ahead: Outcome
    """One that knows the load ahead and must start replicas all the same."""
    fixed: Outcome
    """The smallest number that meets the objective, all the time."""

    @property
    def meets(self) -> bool:
        """Whether Shoal met the objective."""
        return self.shoal.attainment >= self.attainment

    @property
    def over_oracle(self) -> float:
        """Replica hours above the bound, as a share of it."""
        return self.shoal.replica_hours / self.oracle_hours - 1

    @property
    def best_other(self) -> Outcome | None:
        """The cheapest of those that meet the objective; None if none does."""
        return _cheapest(self._meeting())

    @property
    def saved(self) -> float | None:
        """Share of the best other's replica hours that Shoal does without."""
        best = self.best_other
        return None if best is None else 1 - self.shoal.replica_hours / best.replica_hours

    def _meeting(self) -> list[Outcome]:
        return [o for o in self.others.values() if o.attainment >= self.attainment]


def compare(
    scenario: Scenario, *, attainment: float = ATTAINMENT, processes: int = 1,
    progress: Callable[[str], None] = lambda what: None,
) -> Comparison:  # fmt: skip
    """All scalers on one load; a minute or so for an hour of 20 requests/s, on one core.

    Raises ConfigError where no number of replicas meets the objective.
    """
    require_in_reach(scenario, attainment)
    progress("lower bound")
    curve = CapacityCurve(scenario, attainment)
    hours, series = oracle(scenario, curve)
    least = max(1, round(hours * 3600 / max(scenario.requests[-1].arrival_s, 1)))
    scenario = replace(scenario, first_replicas=max(series[0][1], 1))
    progress("all known ahead")
    ahead = clairvoyant(scenario, curve, attainment)
    progress("never scaled")
    never = fixed(scenario, attainment, least=least)
    trials: list[tuple[str, Policy]] = [("Shoal", ShoalPolicy(_spec(scenario, attainment)))]
    trials += [
        (name, make(target)) for name, (make, targets) in OTHERS.items() for target in targets
    ]
    outcomes: dict[str, list[Outcome]] = {}
    results = _simulate_all(scenario, [policy for _, policy in trials], processes)
    for (name, policy), outcome in zip(trials, results, strict=True):
        progress(policy.name)
        outcomes.setdefault(name, []).append(outcome)
    return Comparison(
        scenario=scenario.name, num_requests=len(scenario.requests), attainment=attainment,
        oracle_hours=hours, oracle_series=series, shoal=outcomes.pop("Shoal")[0],
        others={name: best_of(tried, attainment) for name, tried in outcomes.items()},
        ahead=ahead, fixed=never,
    )  # fmt: skip


def _simulate_all(
    scenario: Scenario, policies: Sequence[Policy], processes: int
) -> Iterator[Outcome]:
    """In the order of the policies, as each is done; outcomes do not depend on `processes`."""
    if processes <= 1:
        yield from (simulate(scenario, policy) for policy in policies)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(partial(simulate, scenario), policies)


def best_of(outcomes: Iterable[Outcome], attainment: float) -> Outcome:
    """The cheapest that meets the objective, else the one that comes nearest to it."""
    outcomes = list(outcomes)
    meeting = _cheapest([o for o in outcomes if o.attainment >= attainment])
    return meeting or max(outcomes, key=lambda o: o.attainment)


def _cheapest(outcomes: list[Outcome]) -> Outcome | None:
    return min(outcomes, key=lambda o: o.replica_hours, default=None)


def _spec(scenario: Scenario, attainment: float) -> ScalingSpec:
    return ScalingSpec(
        slo=SloSpec(
            ttft_s=scenario.slo.ttft_s, tpot_s=scenario.slo.tpot_s, attainment=attainment
        ),
        pace=Pace(start_up_s=scenario.start_up.mean_s),
        variants=(VariantSpec(min_replicas=1, max_replicas=MAX_REPLICAS),),
    )  # fmt: skip


def rows(comparison: Comparison) -> Iterator[tuple[str, Outcome | None, float]]:
    """(name, outcome, replica hours) of each line of a table, the bound first."""
    yield "lower bound", None, comparison.oracle_hours
    yield "all known ahead", comparison.ahead, comparison.ahead.replica_hours
    yield "Shoal", comparison.shoal, comparison.shoal.replica_hours
    for outcome in comparison.others.values():
        yield outcome.policy, outcome, outcome.replica_hours
    yield (
        f"never scaled: {comparison.fixed.policy}",
        comparison.fixed,
        comparison.fixed.replica_hours,
    )
