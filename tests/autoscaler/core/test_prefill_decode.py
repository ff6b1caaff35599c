"""Prefill and decode apart: two pools that need each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.autoscaler.core.choice import ALL, grow
from shoal.autoscaler.core.decision import ReasonKind
from shoal.autoscaler.core.spec import Role, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.together import parts_of
from tests.autoscaler.core.cluster import INTERVAL_S, Cluster, Machines, kinds, reason
from tests.autoscaler.core.pool_builder import Kind, expecting, make_pool

PREFILL = VariantSpec(name="prefill", role=Role.PREFILL, max_replicas=40)
DECODE = VariantSpec(name="decode", role=Role.DECODE, max_replicas=40, gpus_per_pod=2)


def make_cluster(*, prefill: int = 0, decode: int = 0, gpu_budget: int | None = None) -> Cluster:
    """A request is 0.15 s of prefill and 0.2 s of decode: replicas of 6 and of 4 a second."""
    spec = ScalingSpec(
        slo=SloSpec(ttft_s=2.0, tpot_s=0.1), variants=(PREFILL, DECODE), gpu_budget=gpu_budget
    )
    machines = {"prefill": Machines(ready=prefill), "decode": Machines(out_s=1e-3, ready=decode)}
    return Cluster(spec, machines)


def test_each_learns_what_it_can_take() -> None:
    cluster = make_cluster(prefill=3, decode=4)
    cluster.run(10.0, 900)
    numbers = cluster.step(10.0).explain
    # The mean prompt in time: load 1 - 0.15 / 2; the mean token: 1 - 0.02 / 0.1.
    assert numbers["prefill.capacity_per_s"] == pytest.approx(0.925 / 0.15, rel=0.05)
    assert numbers["decode.capacity_per_s"] == pytest.approx(0.8 / 0.2, rel=0.05)


def test_they_grow_and_shrink_in_their_ratio() -> None:
    cluster = make_cluster(prefill=2, decode=3)
    for rate in (8.0, 30.0, 12.0):
        cluster.run(rate, 900)
        loads = cluster.step(rate).explain
        assert loads["decode.load"] / loads["prefill.load"] == pytest.approx(1.54, rel=0.05)
        for name, machine in cluster.machines.items():
            assert loads[f"{name}.load"] <= machine.ready <= 1.6 * loads[f"{name}.load"] + 2


def test_longer_answers_are_more_decode_and_no_more_prefill() -> None:
    cluster = make_cluster(prefill=4, decode=6)
    cluster.run(10.0, 900)
    before = cluster.step(10.0).explain
    cluster.output_tokens = 400
    cluster.run(10.0, 1200)
    after = cluster.step(10.0).explain
    assert after["decode.load"] > 1.5 * before["decode.load"]
    assert after["prefill.load"] == pytest.approx(before["prefill.load"], rel=0.1)


def test_to_zero_together_and_from_zero_together() -> None:
    cluster = make_cluster(prefill=1, decode=2)
    cluster.run(4.0, 300)
    steps = cluster.run(0.0, 900)
    zero = [(prefill == 0, decode == 0) for prefill, decode in steps]
    assert zero[-1] == (True, True)
    assert set(zero) == {(False, False), (True, True)}
    first = cluster.step(0.0, held=1)
    assert min(first.desired.values()) >= 1


@pytest.mark.parametrize("arrivals", [0, None])
def test_held_requests_start_one_of_each(arrivals: int | None) -> None:
    decision = make_cluster().step(0.0, arrivals=arrivals, held=2)
    assert decision.desired == {"prefill": 1, "decode": 1}


def test_the_one_that_finds_no_place_holds_the_other_back() -> None:
    cluster = make_cluster(prefill=2, decode=3)
    cluster.machines["decode"].places = 5
    cluster.run(8.0, 1200)
    calm = cluster.machines["prefill"].desired
    # A slow rise to four times as much: more than five can decode.
    steps = [cluster.step(8.0 + i / 10) for i in range(240)]
    needed = steps[-1].explain["prefill.load"]
    assert calm <= steps[-1].desired["prefill"] < 0.95 * needed
    assert "of the need" in reason(steps[-1], ReasonKind.RATIO, "prefill")
    assert ReasonKind.UNSCHEDULABLE in kinds(steps[-1])
    # What stands in the way is still asked for, and with a place for it both grow.
    assert steps[-1].desired["decode"] > 5
    cluster.machines["decode"].places = 100
    last = [cluster.step(32.0) for _ in range(int(600 / INTERVAL_S))][-1]
    assert last.desired["prefill"] >= needed
    assert ReasonKind.RATIO not in kinds(last)


def test_a_budget_is_shared_in_the_ratio() -> None:
    """However they came by what they have: 60 requests/s would need 9.7 and 15."""
    for prefill, decode in ((2, 2), (2, 11), (20, 2)):
        cluster = make_cluster(prefill=prefill, decode=decode, gpu_budget=24)
        steps = cluster.run(60.0, 600)
        assert all(n + 2 * m <= 24 for n, m in steps)
        assert set(steps[-60:]) <= {(6, 9), (4, 10), (5, 9)}
        assert ReasonKind.RATIO in kinds(cluster.step(60.0))


def test_first_tokens_that_come_late_add_prefill_and_slow_answers_decode() -> None:
    def grown(name: str, **late: int) -> bool:
        cluster = make_cluster(prefill=4, decode=5)
        cluster.run(12.0, 600)
        before = {n: m.desired for n, m in cluster.machines.items()}
        for _ in range(120):
            seen = cluster.observe(12.0).variants
            changed = tuple(replace(v, **late) if v.name == name else v for v in seen)  # type: ignore[arg-type]
            cluster.step(12.0, variants=changed)
        other = "decode" if name == "prefill" else "prefill"
        assert cluster.machines[other].desired <= before[other]
        return cluster.machines[name].desired > before[name]

    assert grown("prefill", num_in_time=0)
    assert grown("decode", num_tpot_in_time=0)
    assert not grown("decode", num_in_time=0)


@pytest.mark.parametrize(
    ("prefill", "decode", "needs", "gpus", "shares"),
    [
        # Both can have what they need.
        (Kind(name="p"), Kind(name="d"), (4.0, 6.0), None, (1.0, 1.0)),
        # Decode can have half: prefill is of use for half.
        (Kind(name="p"), Kind(name="d", most=3), (4.0, 6.0), None, (0.5, 1.0)),
        (Kind(name="p", most=1), Kind(name="d"), (4.0, 6.0), None, (1.0, 0.25)),
        (Kind(name="p"), Kind(name="d", ready=3, lacking=1), (4.0, 6.0), None, (1 / 3, 1.0)),
        # Ten GPUs are enough for both, eight for three and five.
        (Kind(name="p"), Kind(name="d"), (4.0, 6.0), 10, (1.0, 1.0)),
        (Kind(name="p"), Kind(name="d"), (4.0, 6.0), 8, (0.75, 0.75)),
        # What is there already is not asked whether it is of use.
        (Kind(name="p", ready=4), Kind(name="d"), (4.0, 6.0), 7, (0.5, 0.5)),
        (Kind(name="p"), Kind(name="d"), (-0.1, -0.1), 0, (0.0, 0.0)),
    ],
)
def test_shares_of_the_need_that_are_of_use(
    prefill: Kind, decode: Kind, needs: tuple[float, float], gpus: int | None,
    shares: tuple[float, float],
) -> None:  # fmt: skip
    pools = [make_pool(prefill, role=Role.PREFILL), make_pool(decode, role=Role.DECODE)]
    expected = [expecting(need) for need in needs]
    found = [part.share for part in parts_of(pools, expected, gpus=gpus)]
    if needs[0] > 0:
        assert found == pytest.approx(shares, abs=1e-5)
    numbers = [
        grow(p, e.up_to * s, gpus=None) for p, e, s in zip(pools, expected, found, strict=True)
    ]
    if gpus is not None:
        assert sum(map(sum, numbers)) <= max(gpus, prefill.ready)


def test_one_pool_alone_is_not_shared() -> None:
    assert parts_of([make_pool(Kind(name="p"))], [expecting(99.0)], gpus=1) == [ALL]
