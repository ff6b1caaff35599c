"""The other scalers do what their documentation says."""

from __future__ import annotations

from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.benchmarks.sim.policies.hpa import Hpa
from shoal.benchmarks.sim.policies.keda import KedaQueue
from shoal.benchmarks.sim.policies.kpa import Kpa


def seen(
    requests: float, *, ready: int, pending: int = 0, waiting: float = 0.0, held: int = 0
) -> Observation:
    variant = VariantObservation(
        name="default", desired=ready + pending, ready=ready, pending=pending,
        num_running=requests, num_waiting=waiting,
    )  # fmt: skip
    return Observation(interval_s=15.0, arrivals=0, held=held, variants=(variant,))


def test_hpa_scales_in_proportion_beyond_its_tolerance() -> None:
    assert Hpa(10).desired(seen(43, ready=4), 0.0) == 4  # 10.75 a replica: within 10 %
    assert Hpa(10).desired(seen(61, ready=4), 0.0) == 7  # ceil(4 * 1.525)


def test_hpa_counts_pods_that_are_not_ready_as_idle_on_the_way_up() -> None:
    assert Hpa(10).desired(seen(80, ready=4, pending=4), 0.0) == 8


def test_hpa_goes_up_by_4_or_to_twice_at_most() -> None:
    assert Hpa(10).desired(seen(1000, ready=2), 0.0) == 6
    assert Hpa(10).desired(seen(1000, ready=10), 0.0) == 20


def test_hpa_does_not_begin_by_going_down() -> None:
    hpa = Hpa(10)
    assert [hpa.desired(seen(5, ready=6), now) for now in (15.0, 300.0, 330.0)] == [6, 6, 1]


def test_hpa_goes_down_to_the_highest_of_the_last_five_minutes() -> None:
    hpa = Hpa(10)
    steps = [(0.0, 80, 8), (15.0, 20, 8), (290.0, 30, 8), (305.0, 30, 3), (320.0, 30, 3)]
    for now, requests, desired in steps:
        assert hpa.desired(seen(requests, ready=8), now) == desired


def test_kpa_panics_when_six_seconds_ask_for_twice_the_replicas() -> None:
    kpa = Kpa(10)  # 7 requests a replica
    for second in range(0, 60, 2):
        assert kpa.desired(seen(14, ready=2), float(second)) == 2
    kpa.desired(seen(70, ready=2), 60.0)
    kpa.desired(seen(70, ready=2), 62.0)
    assert kpa.desired(seen(70, ready=2), 64.0) == 10
    # While it panics it never goes down.
    assert kpa.desired(seen(7, ready=10), 66.0) == 10


def test_kpa_halves_at_most() -> None:
    kpa = Kpa(10)
    assert kpa.desired(seen(0, ready=16), 0.0) == 8


def test_keda_looks_at_who_waits_alone() -> None:
    keda = KedaQueue(5)
    keda.desired(seen(500, ready=2, waiting=0), 0.0)
    assert keda.desired(seen(500, ready=2, waiting=0), 301.0) == 1
    assert KedaQueue(5).desired(seen(0, ready=2, waiting=12, held=8), 0.0) == 4
