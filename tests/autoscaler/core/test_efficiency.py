from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.autoscaler.core.efficiency import LEAST, Efficiency
from shoal.autoscaler.core.spec import ScalingSpec, SloSpec, VariantSpec
from tests.autoscaler.core.cluster import Cluster, Machines


@pytest.mark.parametrize(
    ("num_in_time", "minutes", "low", "high"),
    [
        (100, 60, 1.0, 1.0),  # all in time
        (99, 60, 0.85, 0.95),  # as many missed as may be: a tenth of it is kept
        (95, 10, 0.4, 0.6),
        (0, 60, LEAST, LEAST),
    ],
)
def test_it_falls_by_what_is_missed(
    num_in_time: int, minutes: int, low: float, high: float
) -> None:
    efficiency = Efficiency()
    for _ in range(minutes * 12):
        efficiency.observe(0.99, interval_s=5.0, num_requests=100, num_in_time=num_in_time)
    assert low <= efficiency.value <= high


def test_it_rises_again_and_says_nothing_without_requests() -> None:
    efficiency = Efficiency(0.5)
    efficiency.observe(0.99, interval_s=5.0, num_requests=0, num_in_time=0)
    assert efficiency.value == 0.5
    for _ in range(720):
        efficiency.observe(0.99, interval_s=5.0, num_requests=100, num_in_time=100)
    assert efficiency.value == 1.0


def run_with(*late: str) -> float:
    """Capacity of b as a share of that of a, where some answer a tenth of requests late."""
    spec = ScalingSpec(
        slo=SloSpec(ttft_s=2.0, tpot_s=0.1),
        variants=(
            VariantSpec(name="a", min_replicas=2, max_replicas=40),
            VariantSpec(name="b", min_replicas=2, max_replicas=40),
        ),
    )
    cluster = Cluster(spec, {"a": Machines(ready=3), "b": Machines(ready=3)})
    for _ in range(240):
        variants = tuple(
            replace(v, num_in_time=round(0.9 * (v.num_in_time or 0))) if v.name in late else v
            for v in cluster.observe(14.0).variants
        )
        numbers = cluster.step(14.0, variants=variants).explain
    return numbers["b.capacity_per_s"] / numbers["a.capacity_per_s"]


def test_one_that_does_worse_than_the_other_counts_for_less() -> None:
    assert run_with() == pytest.approx(1.0, rel=0.05)
    assert run_with("b") < 0.8
    assert run_with("a") > 1.25
    assert run_with("a", "b") == pytest.approx(1.0, rel=0.1)  # for the headroom to see to
