"""Several variants of one model in virtual time."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from shoal.autoscaler.core.spec import VariantSpec
from shoal.benchmarks.sim.event_loop import EventLoop
from shoal.benchmarks.sim.fleet import Fleet, StartUp
from shoal.benchmarks.sim.load import poisson
from shoal.benchmarks.sim.mixed import (
    MixedFleet,
    MixedOutcome,
    MixedScenario,
    SimVariant,
    compare_mixed,
)
from shoal.benchmarks.sim.mixed_summary import mixed_page, mixed_table
from shoal.benchmarks.sim.replica import ReplicaSpec
from shoal.benchmarks.sim.request import SimRequest
from shoal.benchmarks.sim.summary import as_json


def variant(name: str, *, cost: float = 1.0, speed: float = 1.0, **changes: object) -> SimVariant:
    return SimVariant(
        spec=VariantSpec(name=name, cost_per_hour=cost), replica=ReplicaSpec(), speed=speed,
        start_up=StartUp(mean_s=20.0), **changes,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(scope="module")
def scenario() -> MixedScenario:
    requests = poisson(lambda t: 3.0, duration_s=300.0, max_rate=3.0)
    return MixedScenario(
        name="small", requests=requests, first={"dear": 1},
        variants=(variant("dear", cost=4.0), variant("cheap")),
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(scenario: MixedScenario) -> list[MixedOutcome]:
    return compare_mixed(scenario)


def test_all_together_and_each_alone(scenario: MixedScenario, outcomes: list[MixedOutcome]) -> None:
    assert [outcome.name for outcome in outcomes] == ["mix", "dear only", "cheap only"]
    for outcome in outcomes:
        assert outcome.attainment > 0.9
        prices = {"dear": 4.0, "cheap": 1.0}
        paid = sum(hours * prices[name] for name, hours in outcome.hours.items())
        assert outcome.cost == pytest.approx(paid)
        tokens = sum(r.num_output_tokens for r in scenario.requests)
        assert outcome.tokens_per_cost == pytest.approx(tokens / outcome.cost)
    mix, dear, cheap = outcomes
    assert cheap.cost < mix.cost <= dear.cost * 1.05
    assert set(cheap.hours) == {"cheap"}


def test_the_same_again_is_the_same(scenario: MixedScenario, outcomes: list[MixedOutcome]) -> None:
    assert compare_mixed(scenario) == outcomes


def test_requests_go_by_speed_and_are_held_while_nobody_is_ready() -> None:
    loop = EventLoop()
    scenario = MixedScenario(
        name="two", requests=[], variants=(variant("fast"), variant("slow", speed=0.25))
    )
    router = MixedFleet(loop, scenario)
    for _ in range(5):
        router.submit(SimRequest(0.0, 1000, 100))
    seen = router.observe()
    assert (seen.arrivals, seen.held) == (5, 5)
    for fleet in router.fleets.values():
        fleet.scale_to(1, at_once=True)
    for _ in range(20):
        router.submit(SimRequest(0.0, 1000, 100))
    counts = {name: fleet.fewest_requests for name, fleet in router.fleets.items()}
    assert sum(n or 0 for n in counts.values()) == 25
    assert counts["slow"] in (4, 5)


def test_places_go_and_come_back() -> None:
    loop = EventLoop()
    fleet = Fleet(loop, start_up=StartUp(mean_s=10.0, spread=0.0), name="spot")

    def counts() -> tuple[int, int, int, int]:
        [seen] = fleet.observe(1.0).variants
        return seen.desired, seen.ready, seen.pending, seen.unschedulable

    fleet.scale_to(4, at_once=True)
    assert counts() == (4, 4, 0, 0)
    fleet.set_places(1)
    assert counts() == (4, 1, 3, 3)
    fleet.scale_to(2)
    assert counts() == (2, 1, 1, 1)
    fleet.set_places(None)
    assert counts() == (2, 1, 1, 0)
    loop.run(11.0)
    assert counts() == (2, 2, 0, 0)


def test_it_is_told_in_the_terminal_as_json_and_as_a_page(
    scenario: MixedScenario, outcomes: list[MixedOutcome]
) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(mixed_table(scenario, outcomes))
    text = console.export_text()
    assert "dear only" in text
    found = json.loads(as_json([], {"small": outcomes}))
    assert list(found["mixes"]["small"]) == ["mix", "dear only", "cheap only"]
    assert "mixes" not in json.loads(as_json([]))
    assert "cheap only" in mixed_page({"small": outcomes})
