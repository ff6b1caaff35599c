from __future__ import annotations

from shoal.benchmarks.sim.event_loop import EventLoop
from shoal.benchmarks.sim.fleet import Fleet, Slo, StartUp
from shoal.benchmarks.sim.replica import ReplicaSpec
from shoal.benchmarks.sim.request import SimRequest
from shoal.benchmarks.sim.step_cost import StepCost

COST = StepCost(base_s=0.1, prompt_token_s=0.0, decode_s=0.0, kv_token_s=1e-9)


def make_fleet(loop: EventLoop, *, start_up_s: float = 60.0) -> Fleet:
    return Fleet(
        loop, spec=ReplicaSpec(cost=COST), start_up=StartUp(mean_s=start_up_s, spread=0.0),
        slo=Slo(ttft_s=1.0, tpot_s=0.2),
    )  # fmt: skip


def test_a_replica_serves_when_it_has_started_and_what_was_held_goes_to_it() -> None:
    loop = EventLoop()
    fleet = make_fleet(loop)
    request = SimRequest(0.0, 10, 3)
    fleet.submit(request)
    fleet.scale_to(1)
    loop.run(10.0)
    seen = fleet.observe(10.0)
    assert (seen.held, seen.arrivals, seen.variants[0].pending) == (1, 1, 1)
    loop.run(61.0)
    seen = fleet.observe(51.0)
    assert (seen.held, seen.variants[0].ready, seen.variants[0].start_up_s) == (0, 1, (60.0,))
    assert request.first_token_s is not None
    assert 60.0 < request.first_token_s < 60.2
    assert (seen.variants[0].num_first_tokens, seen.variants[0].num_in_time) == (1, 0)
    assert fleet.replica_s == 61.0


def test_scaling_down_takes_who_is_starting_first_and_lets_the_others_drain() -> None:
    loop = EventLoop()
    fleet = make_fleet(loop)
    fleet.scale_to(2, at_once=True)
    requests = [SimRequest(0.0, 10, 100) for _ in range(2)]
    for request in requests:
        fleet.submit(request)
    fleet.scale_to(4)
    loop.run(1.0)
    fleet.scale_to(1)
    assert (fleet.num_replicas, fleet.num_ready) == (2, 1)
    assert fleet.observe(1.0).variants[0].draining == 1
    loop.run()
    assert all(request.finished_s is not None for request in requests)
    assert fleet.num_replicas == 1


def test_requests_go_to_the_replica_with_the_fewest() -> None:
    loop = EventLoop()
    fleet = make_fleet(loop)
    fleet.scale_to(3, at_once=True)
    for _ in range(6):
        fleet.submit(SimRequest(0.0, 10, 10))
    loop.run(0.15)
    fleet.observe(0.15)
    assert fleet.observe(0.0001).variants[0].num_running == 6  # mean of before and now
    loop.run()
    assert fleet.observe(1.0).variants[0].num_finished == 6


def test_tokens_are_counted_once_whoever_has_gone_since() -> None:
    loop = EventLoop()
    fleet = make_fleet(loop)
    fleet.scale_to(1, at_once=True)
    fleet.submit(SimRequest(0.0, 7, 5))
    loop.run()
    fleet.scale_to(0)
    seen = fleet.observe(1.0)
    assert (seen.output_tokens, seen.input_tokens) == (5, 7)
    assert seen.variants[0].output_tokens_per_s == 5.0
    assert fleet.observe(1.0).output_tokens == 0
