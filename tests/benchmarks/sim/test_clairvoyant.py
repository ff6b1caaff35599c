from __future__ import annotations

import pytest

from shoal.autoscaler.core.observation import Observation
from shoal.benchmarks.sim.clairvoyant import Clairvoyant, fixed
from shoal.benchmarks.sim.fleet import StartUp
from shoal.benchmarks.sim.load import bursts, clients, poisson
from shoal.benchmarks.sim.simulate import Scenario

NOTHING = Observation(interval_s=5.0, arrivals=0, input_tokens=0, output_tokens=0)


@pytest.mark.parametrize(
    ("now", "desired"),
    [(0.0, 2), (49.0, 2), (50.0, 5), (179.0, 5), (180.0, 1), (1000.0, 1)],
)
def test_replicas_are_ordered_when_they_will_be_ready_in_time(now: float, desired: int) -> None:
    """60 s of start-up, at most 66, asked every 5 s: those for second 120 are ordered by 50."""
    series = [(0.0, 2), (60.0, 1), (120.0, 5), (180.0, 0)]
    assert Clairvoyant(series, StartUp()).desired(NOTHING, now) == desired


@pytest.mark.parametrize("least", [1, 2, 3, 5])
def test_the_smallest_fixed_number_is_found_from_wherever_it_starts(least: int) -> None:
    requests = poisson(lambda t: 8.0, duration_s=200, max_rate=8.0)
    found = fixed(Scenario(name="steady", requests=requests), 0.99, least=least)
    assert found.attainment >= 0.99
    assert found.policy == f"{max(3, least)} replicas"


def test_bursts_come_by_the_clock() -> None:
    rate = bursts(6, 18, every_s=600, lasts_s=120)
    assert [rate(t) for t in (0, 119, 121, 599, 600, 1300)] == [18, 18, 6, 6, 18, 18]


def test_clients_make_a_load_that_is_burstier_than_chance() -> None:
    requests = clients(20.0, number=20, duration_s=1800.0, seed=3)
    assert [r.arrival_s for r in requests] == sorted(r.arrival_s for r in requests)
    assert len(requests) == pytest.approx(36_000, rel=0.25)
    counts = [0] * 180
    for request in requests:
        counts[min(int(request.arrival_s / 10), 179)] += 1
    mean = sum(counts) / len(counts)
    assert sum((c - mean) ** 2 for c in counts) / len(counts) > 2 * mean
    again = clients(20.0, number=20, duration_s=1800.0, seed=3)
    assert again == requests
